"""From JSON to a trained adapter, through the real service, guard and trainer; and through kills of each of them."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest

from trainyard.guard import processes_of

pytestmark = pytest.mark.slow


def owner(server, job_id: str) -> int:
    record = server.data_dir / "jobs" / job_id / "attempts" / "1.0" / "owner.json"
    return int(json.loads(record.read_text())["pid"])


def runs(server, job_id: str) -> list[int]:
    return processes_of(f"{server.get(f'/train/{job_id}')['uid']}.1.0")


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def wait_for_step(server, job_id: str, step: int) -> None:
    until = time.monotonic() + 240
    while time.monotonic() < until:
        job = server.get(f"/train/{job_id}")
        assert job["status"] not in ("failed", "cancelled"), server.events(job_id)[-1]
        if (job["progress"] or {}).get("step", 0) >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"{job_id} never came to step {step}: {job}")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # stock peft asks by the old name
def test_a_document_becomes_an_adapter_that_the_stock_loader_reads(server, training, tmp_path):
    server.start()
    server.post(training("a", save_steps=10))
    job = server.wait_end("a")
    assert job["status"] == "succeeded", server.events("a")[-1]
    events = server.events("a")
    types = [e["type"] for e in events]
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    assert types[:3] == ["job.queued", "job.submitted", "job.running"]
    assert [e["data"]["step"] for e in events if e["type"] == "job.progress"] == list(range(1, 21))
    assert "job.validation" in types
    output = tmp_path / "results" / "a"
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["metrics"]
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= {
        p.name for p in (output / "final").iterdir()
    }
    checkpoints = server.get("/train/a/checkpoints")["checkpoints"]
    assert [c["step"] for c in checkpoints] == [10, 20]
    assert Path(events[-1]["data"]["final_uri"]) == output / "final"
    mirrored = tmp_path / "logs" / "a"
    until = time.monotonic() + 60
    while not (mirrored / "metrics.jsonl").exists() or len(lines(mirrored / "metrics.jsonl")) < 20:
        assert time.monotonic() < until
        time.sleep(0.1)
    while "job.succeeded" not in (mirrored / "events.jsonl").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert [json.loads(line) for line in lines(mirrored / "events.jsonl")] == events
    assert len(lines(mirrored / "metrics.jsonl")) == 20
    status, log = server.request("GET", "/train/a/logs")
    assert (status, log.startswith("── attempt 1.0")) == (200, True)
    _loads_by_peft(output / "final", manifest)


def _loads_by_peft(adapter: Path, manifest: dict) -> None:
    from peft import AutoPeftModelForCausalLM

    model = AutoPeftModelForCausalLM.from_pretrained(adapter)
    assert sum("lora_" in name for name, _ in model.named_parameters()) > 0
    assert manifest


def test_a_killed_service_finds_its_run_again_and_tells_every_step(server, training, slowly):
    slow = slowly("a")
    server.start()
    server.post(training("a", max_steps=150))
    wait_for_step(server, "a", 3)
    guard = owner(server, "a")
    server.kill()
    time.sleep(0.5)
    os.kill(guard, 0)
    server.start()
    slow.unlink()
    assert owner(server, "a") == guard
    job = server.wait_end("a")
    assert job["status"] == "succeeded", server.events("a")[-1]
    events = server.events("a")
    assert [e["data"]["step"] for e in events if e["type"] == "job.progress"] == list(range(1, 151))
    assert [e["sequence"] for e in events] == list(range(1, len(events) + 1))
    assert [e["type"] for e in events].count("job.running") == 1


def test_a_run_that_ends_while_the_service_is_down_is_told_afterwards(server, training):
    server.start()
    server.post(training("a", max_steps=30))
    wait_for_step(server, "a", 1)
    server.kill()
    exit_file = server.data_dir / "jobs" / "a" / "attempts" / "1.0" / "exit.json"
    until = time.monotonic() + 60
    while not exit_file.exists():
        assert time.monotonic() < until
        time.sleep(0.1)
    server.start()
    assert server.wait_end("a")["status"] == "succeeded"
    assert [e["data"]["step"] for e in server.events("a") if e["type"] == "job.progress"] == list(range(1, 31))


def test_a_killed_trainer_is_a_failure_that_says_killed(server, training):
    server.start()
    server.post(training("a", max_steps=100_000))
    wait_for_step(server, "a", 2)
    trainer = next(pid for pid in runs(server, "a") if pid != owner(server, "a"))
    os.kill(trainer, signal.SIGKILL)
    job = server.wait_end("a")
    end = server.events("a")[-1]
    assert (job["status"], job["reason"]) == ("failed", "killed")
    assert (end["data"]["signal"], end["data"]["exit_code"]) == (9, None)
    assert runs(server, "a") == []


def test_a_killed_guard_is_a_lost_run_and_nothing_of_it_is_left(server, training):
    server.start()
    server.post(training("a", max_steps=100_000))
    wait_for_step(server, "a", 2)
    os.kill(owner(server, "a"), signal.SIGKILL)
    job = server.wait_end("a")
    assert (job["status"], job["reason"]) == ("failed", "lost")
    assert runs(server, "a") == []


def test_cancel_leaves_a_complete_checkpoint_and_no_process(server, training, tmp_path):
    server.settings["GRACE_SECONDS"] = "30"
    server.start()
    server.post(training("a", max_steps=100_000))
    wait_for_step(server, "a", 2)
    status, job = server.request("POST", "/train/a/cancel")
    assert (status, job["phase"]) == (202, "stopping")
    job = server.wait_end("a")
    assert (job["status"], job["reason"]) == ("cancelled", "cancelled")
    (checkpoint,) = server.get("/train/a/checkpoints")["checkpoints"]
    assert (Path(checkpoint["uri"]) / "checkpoint.json").exists()
    assert server.events("a")[-1]["data"]["step"] == checkpoint["step"]
    assert runs(server, "a") == []
    assert not (server.data_dir / "jobs" / "a" / "secrets.1").exists()


def test_past_its_time_a_run_stops_after_a_checkpoint(server, training):
    server.settings["GRACE_SECONDS"] = "30"
    server.start()
    server.post(training("a", max_steps=100_000))
    wait_for_step(server, "a", 2)
    assert server.request("PATCH", "/train/a", {"resources": {"max_duration_minutes": 0.01}})[0] == 202
    job = server.wait_end("a")
    assert (job["status"], job["reason"]) == ("failed", "time_limit")
    assert len(server.get("/train/a/checkpoints")["checkpoints"]) == 1


def test_cpu_jobs_wait_for_their_slot_with_the_reason(server, training):
    server.start()
    server.post(training("a", max_steps=100_000))
    server.post(training("b", max_steps=2))
    wait_for_step(server, "a", 1)
    waiting = server.get("/train/b")
    assert (waiting["status"], waiting["detail"]) == ("queued", "waits for 1 CPU job slot, 0 free")
    server.request("POST", "/train/a/cancel")
    assert server.wait_end("b")["status"] == "succeeded"


def test_broken_data_fails_with_the_file_and_the_line(server, training, tmp_path):
    document = training("a")
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n{"text": broken\n')
    server.start()
    server.post(document)
    job = server.wait_end("a")
    assert (job["status"], job["reason"]) == ("failed", "data")
    assert "rows.jsonl:2: is not JSON" in job["detail"]
    assert "rows.jsonl:2: is not JSON" in server.events("a")[-1]["data"]["log_tail"]


def test_the_output_of_another_job_is_a_conflict(server, training, tmp_path):
    server.start()
    server.post(training("a", max_steps=2))
    server.wait_end("a")
    document = training("b", max_steps=2)
    document["artifacts"]["output_uri"] = str(tmp_path / "results" / "a" / "b")
    moved = tmp_path / "results" / "a" / "b"
    moved.mkdir()
    (tmp_path / "results" / "a" / "checkpoints").rename(moved / "checkpoints")
    status, problem = server.request("POST", "/train", document)
    assert (status, "checkpoint of another job" in problem["detail"]) == (409, True)
    (moved / "checkpoints").rename(tmp_path / "results" / "a" / "checkpoints")
    status, _ = server.request("POST", "/train", training("a", max_steps=2))
    assert status == 200
    status, problem = server.request("POST", "/train", training("a", max_steps=3))
    assert (status, "is taken by another document" in problem["detail"]) == (409, True)


def test_a_secret_never_shows_in_log_events_folder_or_answers(server, training, tmp_path):
    document = training("a", max_steps=2)
    document["base_model"]["huggingface_token"] = "hf_extremely-secret"
    document["extra_parameters"] = {"env": {"MY_PASSWORD": "equally-secret"}}
    server.start()
    server.post(document)
    assert server.wait_end("a")["status"] == "succeeded"
    shown = json.dumps(server.events("a")) + json.dumps(server.get("/train/a"))
    shown += server.request("GET", "/train/a/logs")[1] + server.log.read_text()
    for path in [*tmp_path.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # written aside, and renamed since it was listed
            if path.is_file() and path.suffix != ".safetensors":
                shown += path.read_bytes().decode(errors="replace")
    assert "extremely-secret" not in shown
    assert "equally-secret" not in shown
