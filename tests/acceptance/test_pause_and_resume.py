"""Pause, resume, change and retry of a real run: the losses are those of a run that nobody disturbed."""

import os
import signal
import time

import pytest

from tests.acceptance.test_local_training import owner, wait_for_step

pytestmark = pytest.mark.slow


def wait_for(server, job_id: str, holds, seconds: float = 180) -> dict:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if holds(job := server.get(f"/train/{job_id}")):
            return job
        time.sleep(0.05)
    raise AssertionError(f"{job_id} stays {job['status']}/{job['phase']}: {server.events(job_id)[-1]}")


def losses(server, job_id: str) -> list[tuple[int, float]]:
    found = {m["step"]: m["loss"] for m in server.get(f"/train/{job_id}/metrics?limit=10000")["metrics"]}
    return sorted(found.items())


def test_a_paused_run_goes_on_to_the_same_losses(server, training, slowly):
    slowly("paused")
    server.start()
    server.post(training("whole", max_steps=60, lr_scheduler="cosine"))
    assert server.wait_end("whole")["status"] == "succeeded"
    server.post(training("paused", max_steps=60, lr_scheduler="cosine"))
    wait_for_step(server, "paused", 5)
    assert server.request("POST", "/train/paused/pause")[0] == 202
    paused = wait_for(server, "paused", lambda job: job["phase"] == "paused")
    step = server.events("paused")[-1]["data"]["step"]
    assert 5 <= step < 60, paused
    saved = [e["data"] for e in server.events("paused") if e["type"] == "job.checkpoint"][-1]
    assert (saved["kind"], saved["step"]) == ("stop", step)
    assert 0 < saved["seconds"] < 30
    assert server.request("POST", "/train/paused/resume")[0] == 202
    assert server.wait_end("paused")["status"] == "succeeded"
    queued = [e for e in server.events("paused") if e["type"] == "job.queued"]
    assert queued[1]["data"]["resumed_from"] == step
    assert losses(server, "paused") == losses(server, "whole")


def test_a_killed_run_is_tried_again_from_its_checkpoint_with_the_same_losses(server, training, slowly):
    slowly("killed")
    server.settings["RETRY_SECONDS"] = "0.1"
    server.start()
    server.post(training("whole", max_steps=60, save_steps=5))
    assert server.wait_end("whole")["status"] == "succeeded"
    server.post(training("killed", max_steps=60, save_steps=5) | {"extra_parameters": {"max_retries": 1}})
    wait_for_step(server, "killed", 12)
    os.kill(owner(server, "killed"), signal.SIGKILL)
    job = server.wait_end("killed")
    assert (job["status"], job["attempt"]) == ("succeeded", 2)
    (retry,) = [e for e in server.events("killed") if e["type"] == "job.retrying"]
    assert retry["data"]["reason"] == "lost"
    assert retry["data"]["resumed_from"] % 5 == 0
    assert losses(server, "killed") == losses(server, "whole")


def test_a_cancelled_job_goes_on_with_more_epochs_and_on_demand_writes_a_checkpoint(server, training):
    server.start()
    server.post(training("a", max_steps=100_000))
    wait_for_step(server, "a", 5)
    status, answer = server.request("POST", "/train/a/checkpoint")
    assert (status, "command_id" in answer) == (202, True)
    wait_for(server, "a", lambda _: server.get("/train/a/checkpoints")["checkpoints"])
    server.request("POST", "/train/a/cancel")
    assert server.wait_end("a")["status"] == "cancelled"
    body = {"tuning_parameters": {"max_steps": 30, "learning_rate": 1e-5}}
    assert server.request("POST", "/train/a/resume", body)[0] == 202
    job = server.wait_end("a")
    assert (job["status"], job["attempt"]) == ("succeeded", 2)


def test_a_changed_learning_rate_holds_from_the_step_that_is_told(server, training, slowly):
    slow = slowly("a")
    server.start()
    server.post(training("a", max_steps=300, lr_scheduler="constant"))
    wait_for_step(server, "a", 5)
    body = {"tuning_parameters": {"learning_rate": 1e-5, "max_steps": 60}}
    assert server.request("PATCH", "/train/a", body)[0] == 202
    wait_for(server, "a", lambda _: any(e["type"] == "job.changed" for e in server.events("a")))
    slow.unlink()
    job = server.wait_end("a")
    assert job["status"] == "succeeded"
    (changed,) = [e for e in server.events("a") if e["type"] == "job.changed"]
    step = changed["data"]["step"]
    assert changed["data"]["new"] == {"tuning_parameters.learning_rate": 1e-5, "tuning_parameters.max_steps": 60}
    rates = {m["step"]: m["learning_rate"] for m in server.get("/train/a/metrics?limit=1000")["metrics"]}
    assert {rate for at, rate in rates.items() if at <= step} == {2e-4}
    assert {rate for at, rate in rates.items() if at > step} == {1e-5}
    assert max(rates) == 60
    (entry,) = job["metadata"]["job_spec"]["changes"]
    assert entry["step"] == step
