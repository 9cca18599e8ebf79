"""Validations, previews and scripts of real training runs, in this process."""

import json
from pathlib import Path

import pytest

from common.folder import Pair
from trainyard.trainer.failures import Stopped

SHOWN = {
    "validation_prompt": "a red circle on a striped background",
    "validation_resolution": "32x32",
    "validation_num_inference_steps": 2,
    "validation_step_interval": 2,
    "lora_dropout": 0.1,
}


def shown(job, **wanted):
    return [e for e in job.events("validation") if all(e.get(name) == value for name, value in wanted.items())]


@pytest.mark.slow
def test_pictures_come_in_the_intervals_and_the_losses_are_those_of_a_run_without(job):
    with_pictures = job(folder="shown", **SHOWN | {"disable_benchmark": False, "validation_preview": True})
    with_pictures.train()
    assert [(e["step"], e["why"]) for e in shown(with_pictures, kind="picture")] == [
        (0, "benchmark"),
        (2, "step"),
        (4, "end"),
    ]
    assert [e["sampling_step"] for e in shown(with_pictures, kind="preview")] == [1, 2] * 3
    files = [with_pictures.output / e["path"] for e in shown(with_pictures)]
    assert all(path.is_file() for path in files)
    assert (with_pictures.output / "validation" / "step-4" / "grid.png").is_file()
    assert files[2].read_bytes() != files[8].read_bytes(), "something was learned between steps 0 and 4"

    without = job(folder="plain", **SHOWN | {"validation_disable": True})
    without.train()
    assert shown(without) == [] and with_pictures.losses() == without.losses()
    assert {e["phase"] for e in with_pictures.events("phase")} - {e["phase"] for e in without.events("phase")} == {
        "evaluating"
    }


@pytest.mark.slow
def test_a_resumed_run_shows_what_is_still_due_and_its_curve_goes_on(job):
    options = SHOWN | {"lr_scheduler": "constant", "validation_step_interval": 3, "disable_benchmark": False}
    whole = job(folder="whole", **options)
    whole.train()
    parts = job(folder="parts", **options)
    parts.options["max_train_steps"] = 2
    parts.train()
    parts.options["max_train_steps"] = 4
    parts.train()
    assert [(e["step"], e["why"]) for e in shown(parts, kind="picture")] == [(3, "step"), (4, "end")]
    last = "validation/step-4/validation-32x32-1.png"
    assert (parts.output / last).read_bytes() == (whole.output / last).read_bytes()


@pytest.mark.slow
def test_a_command_is_answered_with_pictures_and_a_job_without_prompts_refuses_it(job):
    line = json.dumps({"format": 1, "attempt": "1.0", "id": "c1", "command": "validate"}) + "\n"
    asked = job(folder="asked", **SHOWN | {"validation_step_interval": 0})
    asked.folder.control.write_text(line)
    asked.train()
    (ack,) = asked.events("ack")
    assert ack == {"id": "c1", "ok": True, "message": "1 picture at step 1", "step": 1}
    assert [(e["step"], e["why"]) for e in shown(asked)] == [(1, "command"), (4, "end")]

    refused = job(folder="refused")
    refused.folder.control.write_text(line)
    refused.train()
    (ack,) = refused.events("ack")
    assert ack["ok"] is False and "no validation_prompt" in ack["message"]


@pytest.mark.slow
def test_a_stop_in_a_validation_leaves_a_checkpoint_from_which_it_is_made_again(job, tmp_path):
    """The script of the checkpoint before it asks for the stop, while the pictures are made."""
    script = tmp_path / "stop.sh"
    stopped = job(**SHOWN | {"validation_num_inference_steps": 2000, "validation_step_interval": 2})
    events = stopped.folder.attempt(Pair(1, 0)) / "events.jsonl"
    script.write_text(
        "#!/bin/sh\n"
        f'while ! grep -q evaluating "{events}"; do sleep 0.05; done\n'
        'echo \'{"format": 1, "attempt": "1.0", "id": "s", "command": "stop"}\' >> "$1"\n'
    )
    script.chmod(0o755)
    command = f"'{script}' '{stopped.folder.control}'"
    stopped.options |= {"checkpoint_step_interval": 1, "post_checkpoint_script": command}
    with pytest.raises(Stopped) as raised:
        stopped.train()
    assert raised.value.saved and shown(stopped) == []
    assert stopped.steps[-1] == "step-2"
    stopped.options |= {"validation_num_inference_steps": 2, "post_checkpoint_script": None}
    stopped.train()
    assert [(e["step"], e["why"]) for e in shown(stopped)] == [(2, "step"), (4, "end")]


@pytest.mark.slow
def test_scripts_of_checkpoints_and_uploads_and_in_place_of_pictures_are_run(job):
    scripts = {
        "post_checkpoint_script": "touch 'saved {global_step}'",
        "post_upload_script": "touch 'up {remote_checkpoint_path}{local_checkpoint_path}'",
        "validation_external_script": "cp -r {local_checkpoint_path} 'validated {global_step}'",
    }
    made = job(validation_method="external-script", validation_step_interval=2, checkpoint_step_interval=1, **scripts)
    made.options["post_upload_script"] = "cp -r {local_checkpoint_path} uploaded{remote_checkpoint_path}"
    made.train()
    names = {path.name for path in made.output.iterdir()}
    assert {f"saved {n}" for n in (1, 2, 3, 4)} | {"validated 2", "validated 4"} <= names
    assert (made.output / "validated 2" / "checkpoint.json").read_text() == (
        made.output / "checkpoints" / "step-2" / "checkpoint.json"
    ).read_text()
    assert Path(made.output / "uploaded" / "README.md").is_file()
    assert {e["script"] for e in made.events("log") if "script" in e} == set(scripts)
