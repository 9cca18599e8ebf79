"""A run of two processes that comes to nothing more, or of which one dies: looked into, ended, tried again."""

import os
import re
import signal

import pytest

from tests.acceptance.test_local_training import runs, wait_for_step

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def rank(server, job_id: str, number: int) -> int:
    """Of the newest attempt: a slow machine may have taken too long over an earlier one."""
    attempt = server.get(f"/train/{job_id}")["attempt"]
    own = server.data_dir / "jobs" / job_id / "attempts" / f"{attempt}.0"
    return int((own / "ranks" / f"{number}.pid").read_text())


def in_two(document: dict, **extra: object) -> dict:
    document["resources"]["cpus"] = 2
    return document | {"extra_parameters": {"processes": 2, **extra}}


def test_a_run_that_hangs_shows_the_stacks_of_all_its_processes_and_is_tried_again(server, training):
    server.settings |= {"RETRY_SECONDS": "0.1", "GRACE_SECONDS": "20"}
    server.start()
    server.post(in_two(training("a", max_steps=300, save_steps=5), stall_minutes=0.4, max_retries=9))
    wait_for_step(server, "a", 6)
    ranks = [rank(server, "a", number) for number in (0, 1)]
    os.kill(ranks[1], signal.SIGSTOP)  # the other one waits for it in the middle of a step
    job = server.wait_end("a", seconds=600)
    events = server.events("a")
    assert job["status"] == "succeeded", events[-1]
    stalled = [e["data"] for e in events if e["type"] == "job.stalled"][-1]
    assert stalled["seconds"] >= 24 and stalled["last_step"] >= 6
    retried = [e["data"] for e in events if e["type"] == "job.retrying"]
    assert {data["reason"] for data in retried} == {"stalled"} and retried[-1]["resumed_from"] >= 5
    _, log = server.request("GET", "/train/a/logs")
    said = re.split(r"── guard: the stacks of \S+ \((\d+)\):\n", log)
    dumps = {int(pid): dump for pid, dump in zip(said[1::2], said[2::2], strict=True)}
    for pid in ranks:
        assert "(most recent call first)" in dumps[pid] and "trainyard/trainer/text/train.py" in dumps[pid]
    assert runs(server, "a") == []


def test_a_run_of_which_one_process_fails_ends_with_the_reason_of_the_first_that_did(server, training):
    server.start()
    server.post(in_two(training("a", max_steps=100_000)))
    wait_for_step(server, "a", 3)
    os.kill(rank(server, "a", 1), signal.SIGSEGV)
    job = server.wait_end("a", seconds=300)
    end = server.events("a")[-1]["data"]
    assert (job["status"], job["reason"], end["signal"]) == ("failed", "killed", 11)
    assert "process 1: ended by SIGSEGV" in end["log_tail"]
    assert runs(server, "a") == []
