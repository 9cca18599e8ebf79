"""From request to spec: defaults lowered with a warning, paths absolute, no secrets."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.local.spec import TRAINER, build
from common.backend import JobSpec
from common.folder import spec_document
from common.job import Job
from schemas.converter import structure
from schemas.train import TrainRequest
from tests.unit.backends.local.documents import GPUS, SMALL, document


def built(folder: Path, machine: Any = SMALL, **patch: Any) -> JobSpec:
    read = structure(document(folder, **patch), TrainRequest)
    assert read.value is not None, read.errors
    return build(read.value, machine, 4096)


def test_defaults_are_lowered_to_what_the_machine_has_with_a_warning_each(tmp_path: Path) -> None:
    spec = built(tmp_path)
    assert [str(w) for w in spec.warnings] == [
        "resources.gpus: lowered from the default 1 to 0: this machine has no GPU",
        "resources.cpus: lowered from the default 8 to the 2 that this machine has",
        "resources.memory_gb: lowered from the default 64 to the 23 that this machine has",
    ]
    assert (spec.lane, spec.needs, spec.threads, spec.deadline_minutes) == ("cpu", {"cpu": 1}, 2, 480)
    resources: Any = spec.request["resources"]
    assert (resources["gpus"], resources["cpus"], resources["memory_gb"]) == (0, 2, 23)
    assert (spec.engine, spec.argv, spec.folder) == ("text", TRAINER, True)


def test_on_a_gpu_nothing_is_lowered(tmp_path: Path) -> None:
    spec = built(tmp_path, GPUS)
    assert (spec.lane, spec.needs, spec.threads, spec.warnings) == ("gpu", {"gpu": 1}, 8, ())


def test_a_gpu_type_on_a_cpu_run_is_a_warning(tmp_path: Path) -> None:
    spec = built(tmp_path, GPUS, resources={"gpus": 0, "gpu_type": "H100"})
    assert [str(w) for w in spec.warnings] == ["resources.gpu_type: is not used: the job runs on the CPU"]


@pytest.mark.parametrize(
    ("given", "expected", "warned"),
    [
        ({}, (8, 4, 2), False),
        ({"batch_size": 6}, (6, 3, 2), False),
        ({"batch_size": 7}, (7, 1, 7), False),
        ({"batch_size": 16, "micro_batch_size": 16}, (16, 16, 1), False),
        ({"batch_size": 16, "gradient_accumulation_steps": 2}, (16, 8, 2), False),
        ({"micro_batch_size": 2}, (8, 2, 4), False),
        ({"micro_batch_size": 3}, (6, 3, 2), True),
        ({"micro_batch_size": 32}, (32, 32, 1), True),
        ({"gradient_accumulation_steps": 3}, (6, 2, 3), True),
        ({"micro_batch_size": 5, "gradient_accumulation_steps": 5}, (25, 5, 5), True),
    ],
)
def test_the_batch_is_cut_as_asked_and_the_rest_follows(
    tmp_path: Path, given: dict[str, int], expected: tuple[int, int, int], warned: bool
) -> None:
    spec = built(tmp_path, tuning_parameters=given)
    tuning: Any = spec.request["tuning_parameters"]
    names = ("batch_size", "micro_batch_size", "gradient_accumulation_steps")
    assert tuple(tuning[name] for name in names) == expected
    assert ("tuning_parameters.batch_size" in [w.path for w in spec.warnings]) is warned


def test_on_a_gpu_eight_rows_are_taken_at_once(tmp_path: Path) -> None:
    tuning: Any = built(tmp_path, GPUS, tuning_parameters={"batch_size": 64}).request["tuning_parameters"]
    assert (tuning["micro_batch_size"], tuning["gradient_accumulation_steps"]) == (8, 8)


def test_outputs_are_absolute_and_end_in_the_jobs_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"log_uri": f"file://{tmp_path}/my%20logs/", "output_uri": "results/job-1"}
    spec = built(tmp_path, artifacts=given, base_model={"model_name": "./model"})
    assert spec.log == str(tmp_path / "my logs" / "job-1")
    assert spec.output == str(tmp_path / "results" / "job-1")
    assert spec.request["base_model"]["model_name"] == str(tmp_path / "model")  # type: ignore[index]


def test_the_spec_has_no_secret_and_no_mask(tmp_path: Path) -> None:
    spec = built(
        tmp_path,
        base_model={"auth_token": "hf_one", "huggingface_token": "hf_two"},
        callbacks={"webhook_url": "http://127.0.0.1:1/x", "auth_header": "Bearer three"},
        extra_parameters={"env": {"NAME": "four-four"}},
    )
    text = json.dumps(spec.request)
    assert not any(word in text for word in ("hf_one", "hf_two", "three", "four-four", "•"))
    assert spec.request["base_model"]["huggingface_token"] is None  # type: ignore[index]


def test_what_depends_on_other_fields_is_resolved(tmp_path: Path) -> None:
    tuning: Any = built(tmp_path, customization={"method": "full"}).request["tuning_parameters"]
    assert tuning["learning_rate"] == 5e-5
    assert built(tmp_path).request["extra_parameters"]["engine"] == "text"  # type: ignore[index]


def test_spec_json_says_what_the_contract_lists(tmp_path: Path) -> None:
    spec = built(tmp_path)
    made = spec_document(Job(uid="ab" * 16, job_id="job-1", backend="local"), spec, ["1"])
    assert set(made) == {
        *("uid", "job_id", "engine", "request", "options", "output"),
        *("log", "devices", "threads", "deadline_minutes", "changes"),
    }
    assert (made["devices"], made["changes"], made["threads"]) == (["1"], [], 2)
    assert json.loads(json.dumps(made)) == made
