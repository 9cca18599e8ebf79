"""What may happen between two awaits of dispatch and of a cancel: the simulated backend, made slow or made to fail."""

import asyncio
from collections import Counter

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from backends.simulated.backend import SimulatedBackend
from common.errors import BackendUnavailable, StorageFull
from service.app import make_app


@pytest.fixture
def submissions(monkeypatch):
    """How often each job was handed over; `before` is awaited in front of each, and may raise."""
    calls: Counter[str] = Counter()
    real = SimulatedBackend.submit

    async def submit(self, job, attempt, spec):
        calls[job.job_id] += 1
        if submit.before is not None:
            await submit.before()
        return await real(self, job, attempt, spec)

    submit.before, submit.calls = None, calls
    monkeypatch.setattr(SimulatedBackend, "submit", submit)
    return submit


async def end(client, name, seconds=15):
    async with asyncio.timeout(seconds):
        while (job := await (await client.get(f"/train/{name}")).json())["ended_at"] is None:
            await asyncio.sleep(0.02)
    return job


async def handed_over(submissions, name):
    async with asyncio.timeout(10):
        while not submissions.calls[name]:
            await asyncio.sleep(0.005)


async def test_a_job_cancelled_during_a_submission_that_fails_is_cancelled(client, document, submissions):
    go_on = asyncio.Event()

    async def fail():
        await go_on.wait()
        raise BackendUnavailable("away")

    submissions.before = fail
    await client.post("/train", json=document("a"))
    await handed_over(submissions, "a")
    assert (await client.post("/train/a/cancel")).status == 202
    go_on.set()
    assert (await end(client, "a"))["status"] == "cancelled"
    assert submissions.calls["a"] == 1


async def test_a_job_cancelled_during_a_submission_that_goes_through_is_cancelled(client, document, submissions):
    go_on = asyncio.Event()
    submissions.before = go_on.wait
    await client.post("/train", json=document("a", duration_seconds=60))
    await handed_over(submissions, "a")
    answers = await asyncio.gather(*(client.post("/train/a/cancel") for _ in range(5)))
    assert {answer.status for answer in answers} == {202}
    go_on.set()
    assert (await end(client, "a"))["status"] == "cancelled"


async def test_an_old_answer_to_who_waits_hands_no_job_over_twice(parts, client, document, submissions, monkeypatch):
    real = parts.store.waiting

    async def late(*values):
        found = await real(*values)
        await asyncio.sleep(0.1)
        return found

    monkeypatch.setattr(parts.store, "waiting", late)
    for n in range(8):
        await client.post("/train", json=document(f"job-{n}", duration_seconds=0.5))
        parts.dispatch.wake()
        await asyncio.sleep(0.02)
    for n in range(8):
        assert (await end(client, f"job-{n}"))["status"] == "succeeded"
    assert set(submissions.calls.values()) == {1}


async def test_a_run_that_reports_all_the_time_can_be_cancelled(client, document):
    await client.post("/train", json=document("busy", duration_seconds=20, steps=200_000))
    async with asyncio.timeout(10):
        while (await (await client.get("/train/busy")).json())["last_sequence"] < 500:
            await asyncio.sleep(0.02)
    assert (await client.post("/train/busy/cancel")).status == 202
    assert (await end(client, "busy"))["status"] == "cancelled"


async def test_a_backend_whose_find_raises_anything_neither_stops_dispatch_nor_loses_a_cancel(
    parts, client, document, submissions, monkeypatch
):
    async def away():
        raise BackendUnavailable("away")

    async def broken(self, job, attempt):
        raise RuntimeError("a fault of the plug-in")

    submissions.before = away
    real = SimulatedBackend.find
    monkeypatch.setattr(SimulatedBackend, "find", broken)
    await client.post("/train", json=document("a"))
    await handed_over(submissions, "a")
    await asyncio.sleep(0.1)
    assert (await client.post("/train/a/cancel")).status == 202
    await asyncio.sleep(0.2)
    assert parts.dead == []
    monkeypatch.setattr(SimulatedBackend, "find", real)
    assert (await end(client, "a"))["status"] == "cancelled"


async def test_a_failure_that_can_not_be_told_is_told_later(parts, client, document, submissions, monkeypatch):
    async def fault():
        raise RuntimeError("a fault of the plug-in")

    real, full = parts.store.append, [True]

    async def append(*values, **more):
        if full[0]:
            raise StorageFull
        return await real(*values, **more)

    submissions.before = fault
    monkeypatch.setattr(parts.store, "append", append)
    await client.post("/train", json=document("a"))
    await handed_over(submissions, "a")
    await asyncio.sleep(0.2)
    assert parts.dead == []
    full[0] = False
    assert (await end(client, "a"))["reason"] == "rejected"


async def test_a_backend_that_has_room_and_takes_nothing_is_tried_ever_less_often_and_then_given_up(
    opened, settings, document, submissions
):
    async def away():
        raise BackendUnavailable("the controller does not answer")

    submissions.before = away
    parts = await opened(attrs.evolve(settings, backend_down_seconds=2.5))
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document("a"))
        assert (await end(client, "a"))["reason"] == "backend_unavailable"
    assert submissions.calls["a"] <= 4
