"""`examples/own_trainer`, as its README says: a program of the standard library, and a stock Hugging Face script."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_local_training import runs
from tests.acceptance.test_pause_and_resume import wait_for

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "own_trainer"


@pytest.fixture
def example(tmp_path: Path):
    """A document of the examples, with the places of this test and `swapped` arguments of its command."""

    def make(name: str, job_id: str, swapped: dict[str, str], **extra: Any) -> dict[str, Any]:
        document = json.loads((EXAMPLES / name).read_text())
        command = [swapped.get(part, part) for part in document["extra_parameters"]["command"]]
        places = {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "results")}
        parameters = {**document["extra_parameters"], "command": command, **extra}
        return document | {"job_id": job_id, "artifacts": places, "extra_parameters": parameters}

    return make


@pytest.fixture
def own(example):
    script = {"./examples/own_trainer/train.py": str(EXAMPLES / "train.py")}
    return lambda job_id, steps, **extra: example("train.json", job_id, script, env={"STEPS": str(steps)}, **extra)


def steps(server, job_id: str) -> list[int]:
    return [event["data"]["step"] for event in server.events(job_id) if event["type"] == "job.progress"]


def test_the_program_has_at_most_twenty_lines():
    lines = [line for line in (EXAMPLES / "train.py").read_text().splitlines() if line.strip()]
    assert len(lines) <= 20


def test_its_steps_are_told_without_a_gap_while_the_service_is_killed_and_started_again(server, own):
    server.start()
    server.post(own("killed", 80))
    wait_for(server, "killed", lambda job: (job["progress"] or {}).get("step", 0) > 10)
    (program,) = runs(server, "killed")
    server.kill()
    time.sleep(0.5)
    os.kill(program, signal.SIGSTOP)  # or it could be over before the service is back
    server.start()
    os.kill(program, signal.SIGCONT)
    job = server.wait_end("killed")
    assert (job["status"], job["progress"]["step"], job["progress"]["total_steps"]) == ("succeeded", 80, 80)
    assert steps(server, "killed") == list(range(1, 81))


def test_it_obeys_a_stop_and_starts_again(server, own):
    server.start()
    server.post(own("paused", 100_000))
    wait_for(server, "paused", lambda job: (job["progress"] or {}).get("step", 0) > 3)
    assert server.request("POST", "/train/paused/pause")[0] == 202
    wait_for(server, "paused", lambda job: job["phase"] == "paused")
    assert "SIGKILL" not in server.get("/train/paused/logs").replace("SIGKILL follows", "")
    assert server.request("POST", "/train/paused/resume")[0] == 202
    wait_for(server, "paused", lambda job: job["attempt"] == 2 and job["progress"] and job["status"] == "running")
    server.request("POST", "/train/paused/cancel")
    assert server.wait_end("paused")["status"] == "cancelled"


@pytest.mark.parametrize(
    ("command", "explanation"),
    [
        (["no-such-program", "x"], "can't start 'no-such-program': No such file or directory"),
        (["/etc/passwd"], "can't start '/etc/passwd': Permission denied"),
        (["sh", "-c", "exit 65"], "exit code 65"),
    ],
)
def test_a_program_that_fails_says_how(server, own, command, explanation):
    server.start()
    document = own("fails", 1)
    document["extra_parameters"]["command"] = command
    server.post(document)
    job = server.wait_end("fails")
    assert (job["status"], job["reason"]) == ("failed", "exit_code")
    assert job["detail"] == f"failed (exit_code): {explanation}"
    assert explanation.startswith("exit") or explanation in server.get("/train/fails/logs")


def test_a_silent_program_is_stalled_a_killed_one_is_tried_again_and_a_long_one_is_out_of_time(server, own):
    server.settings |= {"RETRY_SECONDS": "0.1", "LOCAL_CPU_JOBS": "3"}
    server.start()
    commands = {"silent": ["sleep", "60"], "killed": ["sh", "-c", "kill -9 $$"], "long": ["sleep", "60"]}
    for job_id, command in commands.items():
        document = own(job_id, 1)
        document["extra_parameters"]["command"] = command
        if job_id == "silent":
            document["extra_parameters"]["stall_minutes"] = 0.02
        if job_id == "killed":
            document["extra_parameters"]["max_retries"] = 1
        if job_id == "long":
            document["resources"]["max_duration_minutes"] = 0.02
        server.post(document)
    assert server.wait_end("silent")["reason"] == "stalled"
    killed = server.wait_end("killed")
    assert (killed["reason"], killed["attempt"]) == ("killed", 2)
    assert server.wait_end("long")["reason"] == "time_limit"


def test_a_forbidden_command_is_a_400_that_says_so(server, own):
    server.settings["ALLOW_COMMAND"] = "false"
    server.start()
    status, said = server.request("POST", "/train", own("forbidden", 1))
    assert status == 400
    assert said["errors"][0]["path"] == "extra_parameters.command"
    assert "TRAINYARD_ALLOW_COMMAND" in said["errors"][0]["message"]


def test_a_stock_hugging_face_script_shows_progress_and_time_left(server, example, tiny):
    swapped = {
        "python3": sys.executable,
        "./examples/own_trainer/hf_trainer.py": str(EXAMPLES / "hf_trainer.py"),
        "./demo/tiny-llama": str(tiny("llama")),
        "./demo/hf-model": str(server.data_dir.parent / "model"),
        "300": "100000",
    }
    server.start()
    server.post(example("hf_trainer.json", "stock", swapped))
    job = wait_for(server, "stock", lambda job: {"eta_seconds", "loss"} <= {*(job["progress"] or ())}, seconds=180)
    seen = job["progress"]
    assert seen["total_steps"] == 100_000
    assert seen["step"] > 0
    assert 0 <= seen["percent"] < 100
    assert seen["loss"] > 0
    server.request("POST", "/train/stock/cancel")
    assert server.wait_end("stock")["status"] == "cancelled"
