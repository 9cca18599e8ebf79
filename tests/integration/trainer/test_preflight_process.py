"""`python -m trainyard.trainer.preflight` over real models and files: one answer on stdout, nothing else done."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trainyard
from tests.tiny import PLAIN_TEXTS

ROOT = Path(trainyard.__file__).parents[1]


class Preflight:
    """A document to be changed by the test, and the process over it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.data = folder, folder / "rows.jsonl"
        self.data.write_text("".join(json.dumps({"text": text}) + "\n" for text in PLAIN_TEXTS))
        self.request = {
            "base_model": {"provider": "custom", "model_name": str(model)},
            "customization": {"method": "lora", "precision": "fp32", "rank": 4},
            "resources": {"gpus": 0, "cpus": 1, "memory_gb": 4},
            "datasets": [{"source": str(self.data), "format": "jsonl"}],
            "tuning_parameters": {},
        }
        self.secrets = None
        self.log = ""

    def start(self) -> "subprocess.Popen[bytes]":
        spec = {"engine": "text", "request": self.request, "options": {"cache_dir": str(self.folder / "cache")}}
        spec |= {"output": str(self.folder / "out"), "devices": [], "threads": 1}
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "trainyard.trainer.preflight"],
            env=environ | {"TMPDIR": str(self.folder)},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        child.stdin.write(json.dumps({"format": 1, "spec": spec, "secrets": self.secrets}).encode())
        child.stdin.close()
        child.stdin = None
        return child

    def run(self) -> tuple[int, dict]:
        with self.start() as child:
            answer, log = child.communicate(timeout=280)
        self.log = log.decode()
        assert answer.count(b"\n") == 1, answer
        return child.returncode, json.loads(answer)


@pytest.fixture
def preflight(tmp_path, tiny_model):
    return Preflight(tmp_path, tiny_model)


@pytest.mark.slow
def test_the_answer_has_data_model_memory_and_steps_and_nothing_is_left_behind(preflight):
    code, found = preflight.run()
    assert code == 0 and found["ok"] is True, preflight.log
    assert set(found) == {"ok", "data", "model", "memory", "steps", "warnings"}
    assert found["data"]["rows"] == 64 and len(found["data"]["examples"]) == 3 and found["steps"] == 24
    assert found["model"]["trainable_parameters"] == 5632 and found["model"]["parameters"] > 40_000
    memory = found["memory"]
    assert memory["estimate_bytes"] == sum(memory["parts"].values()) and memory["fits"] is True
    assert memory["available_bytes"] == 4 << 30 and memory["micro_batch_size"] == 4
    assert not (preflight.folder / "out").exists() and not list(preflight.folder.glob("trainyard-*"))


@pytest.mark.slow
def test_it_says_what_the_job_then_does(preflight, job):
    job.tuning = {"num_epochs": 1, "logging_steps": 1}
    preflight.request |= {"customization": job.custom, "tuning_parameters": job.tuning}
    preflight.request["datasets"] = [{"source": str(job.data), "format": "jsonl"}]
    _, found = preflight.run()
    assert job.run() == 0, job.log
    (told,) = [event["preflight"] for event in job.events("log") if "preflight" in event]
    assert job.events("progress")[-1]["total_steps"] == found["steps"] == told["steps"]
    assert told["tokens"] == found["data"]["tokens"] and told["longest"] == found["data"]["longest_rows"][0]["tokens"]
    assert told["trainable_parameters"] == found["model"]["trainable_parameters"]
    assert told["memory"]["estimate_bytes"] == pytest.approx(found["memory"]["estimate_bytes"], rel=0.25)
    kept = json.loads((job.output / "manifest.json").read_text())["memory"]
    assert kept["estimate_bytes"] == told["memory"]["estimate_bytes"] and abs(kept["error"]) < 0.25


@pytest.mark.slow
def test_damaged_weights_are_found_without_loading_them(preflight, tiny_model, tmp_path_factory):
    cut = shutil.copytree(tiny_model, tmp_path_factory.mktemp("cut") / "model")
    with (cut / "model.safetensors").open("r+b") as file:
        file.truncate(40_000)
    preflight.request["base_model"]["model_name"] = str(cut)
    code, found = preflight.run()
    assert (code, found["reason"]) == (66, "model") and "is cut short" in found["errors"][0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code", "reason", "path", "words"),
    [
        ({"base_model": {"model_name": "/nowhere"}}, 66, "model", "base_model.model_name", "/nowhere"),
        ({"customization": {"target_modules": ["nothing"]}}, 64, "config", "customization.target_modules", "nothing"),
        (
            {"tuning_parameters": {"max_sequence_length": 9000}},
            64,
            "config",
            "tuning_parameters.max_sequence_length",
            "",
        ),
        ({"tuning_parameters": {"micro_batch_size": 3}}, 64, "config", "tuning_parameters.micro_batch_size", "divide"),
        ({"resources": {"memory_gb": 0.3}}, 0, None, None, "will hardly fit"),
    ],
)
def test_what_would_end_the_job_is_said_with_its_path(preflight, change, code, reason, path, words):
    for part, values in change.items():
        preflight.request[part] = {**preflight.request[part], **values}
    found_code, found = preflight.run()
    assert found_code == code, preflight.log
    if code:
        assert found["ok"] is False and found["reason"] == reason
        (error,) = found["errors"]
        assert error["path"] == path and words in error["message"]
    else:
        assert words in found["warnings"][-1]["message"] and found["memory"]["fits"] is False


def test_a_bad_row_is_named_before_torch_is_imported(preflight):
    preflight.data.write_text('{"text": "fine"}\n{"text": broken}\n')
    began = time.monotonic()
    code, found = preflight.run()
    assert (code, found["ok"], found["reason"]) == (65, False, "data")
    assert f"{preflight.data}:2: is not JSON" in found["errors"][0]["message"]
    assert time.monotonic() - began < 60


def test_what_is_no_such_document_is_refused_and_no_secret_is_shown(preflight):
    preflight.secrets = {"values": {"base_model.huggingface_token": "hf_secret_value"}}
    preflight.data.write_text('{"text": hf_secret_value}\n')
    preflight.request["datasets"][0]["source"] = str(preflight.data) + "/hf_secret_value"
    code, found = preflight.run()
    assert code == 65 and "hf_secret_value" not in json.dumps(found) + preflight.log
    preflight.request = None
    code, found = preflight.run()
    assert code == 64 and "stdin must be one JSON object" in found["errors"][0]["message"]


def test_a_signal_ends_it_at_once(preflight):
    os.mkfifo(preflight.folder / "never")
    preflight.request["datasets"][0]["source"] = str(preflight.folder / "never")
    with preflight.start() as child:
        time.sleep(1.5)
        assert child.poll() is None
        child.terminate()
        assert child.wait(30) == -signal.SIGTERM
