"""Every way to fail has its exit code and a last line that says what to do."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard

ROOT = Path(trainyard.__file__).parents[1]


def test_bad_json_names_file_and_line_before_torch_is_imported(job):
    job.data.write_text('{"text": "fine"}\n{"text": broken}\n')
    assert job.run(options=("-X", "importtime")) == 65
    last = job.log.splitlines()[-1]
    assert "data (65)" in last and f"{job.data}:2: is not JSON" in last
    assert job.events()[0]["type"] == "phase"
    assert job.events("log")[-1]["level"] == "error"
    imported = {line.split("|")[-1].strip() for line in job.log.splitlines() if line.startswith("import time:")}
    assert "trainyard.trainer.text.data.corpus" in imported
    assert not imported & {"torch", "transformers", "numpy", "accelerate", "peft"}


def test_the_first_event_comes_before_the_loop_is_even_found(job):
    job.start().wait()
    first = job.events()[0]
    assert (first["n"], first["type"], first["data"]) == (1, "phase", {"phase": "preparing"})


def test_what_was_not_started_by_a_guard_says_so(job):
    child = subprocess.run(
        [sys.executable, "-P", "-m", "trainyard.trainer", str(job.folder)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 64
    assert "TRAINYARD_RUN must be" in child.stderr.splitlines()[-1]


def test_a_spec_that_can_not_be_used_is_64_and_told(job):
    job.output = job.output.relative_to(job.folder.parent)
    assert job.run() == 64
    assert [e["type"] for e in job.events()] == ["phase", "log", "end"]


def test_the_folder_of_another_job_is_refused(job):
    other = job.output / "checkpoints" / "step-3"
    other.mkdir(parents=True)
    (other / "checkpoint.json").write_text(json.dumps({"uid": "another"}))
    assert job.run() == 64
    assert "holds the work of another job" in job.log.splitlines()[-1]


def test_what_does_not_go_together_is_refused_all_at_once(job):
    job.custom |= {"method": "osmosis", "precision": "fp8"}
    job.tuning["early_stopping_patience"] = 2
    assert job.run() == 64
    last = job.log.splitlines()[-1]
    paths = ("customization.method", "customization.precision", "tuning_parameters.early_stopping_patience")
    assert all(path in last for path in paths)


@pytest.mark.slow
def test_a_missing_model_folder_is_66(job):
    job.base["model_name"] = str(job.folder / "nowhere")
    assert job.run() == 66
    assert "model (66)" in job.log.splitlines()[-1] and "there is no such folder" in job.log.splitlines()[-1]


@pytest.mark.slow
def test_a_damaged_model_is_66(job, tiny_model, tmp_path):
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"nothing of the kind")
    job.base["model_name"] = str(copy)
    assert job.run() == 66, job.log


@pytest.mark.slow
def test_a_hub_that_can_not_be_asked_is_69_and_no_secret_is_told(job):
    job.base["model_name"] = "someone/some-model"
    job.secrets = {"values": {"base_model.huggingface_token": "hf_secret_value"}, "env": {}, "job_token": None}
    assert job.run() == 69, job.log
    assert "someone/some-model" in job.log.splitlines()[-1]
    assert "hf_secret_value" not in job.log


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_72_and_what_was_learned_before_it_is_kept(job):
    job.custom = {"method": "full", "precision": "fp32"}
    job.tuning |= {"learning_rate": 1e36, "max_grad_norm": 0, "max_steps": 50}
    assert job.run() == 72, job.log
    last = job.log.splitlines()[-1]
    reached = job.events("end")[0]["step"]
    assert "nan_loss (72)" in last and f"step {reached + 1} came to a loss of" in last
    assert job.steps == [f"step-{reached}"], "the state before the step that was not taken"
    assert job.events("checkpoint")[-1]["kind"] == "stop"


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_74(job):
    def no_large_file() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    assert job.run(preexec_fn=no_large_file) == 74, job.log
    assert "disk_full (74)" in job.log.splitlines()[-1]
    assert job.steps == []


@pytest.mark.slow
def test_rows_that_lose_their_answers_to_the_length_are_65(job):
    job.rows([{"prompt": "a very long question " * 30, "completion": "short"}] * 3)
    job.tuning["max_sequence_length"] = 32
    assert job.run() == 65, job.log
    assert f"{job.data}:1" in job.log.splitlines()[-1]
