"""`max_retries` and `stall_minutes`: what is tried again, how often, and what is told."""

import time

import attrs
from aiohttp.test_utils import TestClient, TestServer

from service.app import make_app
from tests.integration.service.test_pause_and_resume import kinds, until

STALLS = {"outcome": "hang", "duration_seconds": 0.1, "steps": 1, "stall_minutes": 0.01}


async def test_a_lost_run_is_tried_again_as_often_as_was_asked_and_no_more(client, document):
    await client.post("/train", json=document(outcome="lost", max_retries=2))
    job = await until(client, lambda job: job["ended_at"])
    assert (job["status"], job["reason"], job["attempt"]) == ("failed", "lost", 3)
    names, events = await kinds(client)
    assert [name for name in names if name in ("job.retrying", "job.failed")] == [
        *("job.retrying", "job.retrying", "job.failed"),
    ]
    tried = [event for event in events if event["type"] == "job.retrying"]
    assert [(e["attempt"], e["data"]["reason"], e["data"]["resumed_from"]) for e in tried] == [
        (2, "lost", None),
        (3, "lost", None),
    ]
    for before, event, after in zip(events, events[1:], events[2:], strict=False):
        if event["type"] == "job.retrying":
            assert before["time"] < event["data"]["not_before"] <= after["time"]


async def test_a_fault_of_the_job_itself_is_never_tried_again(client, document):
    await client.post("/train", json=document(outcome="failed", max_retries=5))
    job = await until(client, lambda job: job["ended_at"])
    assert (job["status"], job["attempt"]) == ("failed", 1)


async def test_retries_are_counted_anew_after_a_resume(client, document):
    await client.post("/train", json=document(outcome="lost", max_retries=1))
    assert (await until(client, lambda job: job["ended_at"]))["attempt"] == 2
    await client.post("/train/job-1/resume")
    assert (await until(client, lambda job: job["ended_at"] and job["attempt"] > 2))["attempt"] == 4


async def test_a_run_that_says_nothing_for_too_long_is_told_ended_and_tried_again(client, document):
    began = time.monotonic()
    await client.post("/train", json=document(**STALLS, max_retries=1))
    job = await until(client, lambda job: job["ended_at"])
    assert (job["status"], job["reason"], job["attempt"]) == ("failed", "stalled", 2)
    assert time.monotonic() - began < 60
    names, events = await kinds(client)
    assert names.count("job.stalled") == 2
    stalled = next(event for event in events if event["type"] == "job.stalled")
    assert stalled["data"]["seconds"] >= 0.6
    assert stalled["data"]["last_step"] is None
    assert [e["data"]["reason"] for e in events if e["type"] == "job.retrying"] == ["stalled"]


async def test_a_cancel_while_the_retry_waits_is_immediate(opened, settings, document):
    parts = await opened(attrs.evolve(settings, retry_seconds=60))
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document(outcome="lost", max_retries=3))
        await until(client, lambda job: job["attempt"] == 2)
        answer = await client.post("/train/job-1/cancel")
        assert (await answer.json())["status"] == "cancelled"
