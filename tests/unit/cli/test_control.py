"""Commands that steer a job, against a real little service: what they send and what they print."""

import json
from typing import Any

import pytest

from trainyard.cli import main


async def test_a_job_is_paused_and_the_way_back_is_said(
    service: Any, trainyard: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    service.add("j1", "running")
    assert await trainyard("pause", "j1") == 0
    assert capsys.readouterr().out == "j1: pausing\ngo on with it: trainyard resume j1\n"
    assert await trainyard("resume", "j1") == 0
    assert capsys.readouterr().out == "j1: queued\nfollow it: trainyard events --follow j1\n"
    assert service.bodies == [b"", b"{}"]


async def test_resume_sends_what_is_to_be_different(service: Any, trainyard: Any) -> None:
    service.add("j1", "failed")
    sets = ("tuning_parameters.max_steps=100", "resources.gpu_type=A100", "secrets.base_model.huggingface_token=a=b")
    options = [word for text in sets for word in ("--set", text)]
    assert await trainyard("resume", "j1", "--backend", "simulated", *options) == 0
    assert json.loads(service.bodies[0]) == {
        "backend": "simulated",
        "tuning_parameters": {"max_steps": 100},
        "resources": {"gpu_type": "A100"},
        "secrets": {"base_model.huggingface_token": "a=b"},
    }


async def test_change_sends_a_merge_patch(service: Any, trainyard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.add("j1", "running")
    sets = ("priority=-5", "labels.a.b=NaN", "labels.old=null", "tuning_parameters.learning_rate=1e-4")
    assert await trainyard("change", "j1", *(word for text in sets for word in ("--set", text))) == 0
    assert "j1: the change is stored; job.changed says" in capsys.readouterr().out
    assert json.loads(service.bodies[0]) == {
        "priority": -5,
        "labels": {"a.b": "NaN", "old": None},
        "tuning_parameters": {"learning_rate": 1e-4},
    }


async def test_a_checkpoint_is_asked_for(service: Any, trainyard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert await trainyard("checkpoint", "j1") == 0
    assert "j1: a checkpoint is asked for" in capsys.readouterr().out
    assert await trainyard("checkpoint", "j1", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"command_id": "c1"}


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([], "at least one --set"),
        (["priority"], "must be like"),
        (["tuning_parameters.=1"], "must be like"),
        (["priority=1", "priority=2"], "has a value already"),
        (["labels=null", "labels.a=b"], "has a value already"),
        (["labels.a=b", "labels={}"], "has a value already"),
    ],
)
def test_a_change_that_says_nothing_or_contradicts_itself_is_2(
    sets: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["change", "j1", *(word for text in sets for word in ("--set", text))])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err
