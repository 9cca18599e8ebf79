"""Who starts when, and what happens when a backend is away (DESIGN, 3): the simulated one, made to fail."""

import asyncio
from itertools import pairwise

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from backends.simulated.backend import SimulatedBackend
from common.backend import Capacity
from common.errors import BackendFull, BackendUnavailable
from service import dispatch
from service.app import make_app

HELD = {"devices": True, "duration_seconds": 0.15, "steps": 1}


@pytest.fixture
def away(monkeypatch):
    """Makes the simulated backend fail in the ways that are switched on, by the method's name."""
    failing: dict[str, Exception] = {}
    for name in ("submit", "capacity", "cancel", "find"):

        def method(self, *values, _name=name, _real=getattr(SimulatedBackend, name)):
            async def call():
                if _name in failing:
                    raise failing[_name]
                return await _real(self, *values)

            return call()

        monkeypatch.setattr(SimulatedBackend, name, method)
    return failing


@pytest.fixture
async def one_device(opened, settings):
    parts = await opened(attrs.evolve(settings, local_devices="0"))
    async with TestClient(TestServer(make_app(parts))) as client:
        yield client


async def ended(client, *names):
    async with asyncio.timeout(20):
        for name in names:
            while (await (await client.get(f"/train/{name}")).json())["ended_at"] is None:
                await asyncio.sleep(0.02)
    return [(await (await client.get(f"/train/{name}")).json()) for name in names]


async def running(client, name):
    async with asyncio.timeout(20):
        while (await (await client.get(f"/train/{name}")).json())["started_at"] is None:
            await asyncio.sleep(0.01)


async def test_jobs_of_one_lane_start_by_priority_then_age_and_never_share_a_device(one_device, document):
    client = one_device
    wishes = {"first": 0, "low": -5, "high": 50, "old": 0, "new": 0}
    for name, priority in wishes.items():
        held = {**HELD, "duration_seconds": 60} if name == "first" else HELD  # until all others wait
        await client.post("/train", json=document(name, **held) | {"priority": priority})
        if name == "first":
            await running(client, "first")
    await client.post("/train/first/cancel")
    jobs = await ended(client, *wishes)
    by_start = sorted(jobs, key=lambda job: job["started_at"])
    assert [job["job_id"] for job in by_start] == ["first", "high", "old", "new", "low"]
    for before, after in pairwise(by_start):
        assert before["ended_at"] <= after["started_at"]


async def test_a_job_that_waits_for_a_device_holds_up_none_that_needs_none(one_device, document):
    client = one_device
    await client.post("/train", json=document("long", devices=True, duration_seconds=60))
    await running(client, "long")
    await client.post("/train", json=document("waits", **HELD) | {"priority": 100})
    await client.post("/train", json=document("free"))
    (free,) = await ended(client, "free")
    waiting = await (await client.get("/train/waits")).json()
    assert (free["status"], waiting["status"], waiting["detail"]) == ("succeeded", "queued", "waits for 1 GPU, 0 free")
    for name in ("waits", "long"):
        await client.post(f"/train/{name}/cancel")


async def test_more_devices_than_there_are_is_refused_with_their_number(one_device, document):
    asked = document("a", devices=True) | {"resources": {"gpus": 2}}
    answer = await one_device.post("/train", json=asked)
    assert answer.status == 400
    assert "asks for 2 devices, this machine has 1" in (await answer.json())["errors"][0]["message"]


async def test_a_backend_that_is_away_makes_jobs_wait_with_the_reason_and_then_run(client, document, away):
    away["submit"] = BackendUnavailable("the cluster does not answer")
    assert (await client.post("/train", json=document("a"))).status == 201
    async with asyncio.timeout(30):
        while (job := await (await client.get("/train/a")).json())["detail"] is None:
            await asyncio.sleep(0.02)
    assert (job["status"], job["detail"]) == ("queued", "the cluster does not answer")
    del away["submit"]
    assert (await ended(client, "a"))[0]["status"] == "succeeded"


async def test_after_the_set_time_a_backend_that_is_away_fails_its_jobs(opened, settings, document, away):
    away["capacity"] = BackendUnavailable("the cluster does not answer")
    parts = await opened(attrs.evolve(settings, backend_down_seconds=0.5))
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document("a"))
        (job,) = await ended(client, "a")
    assert (job["status"], job["reason"]) == ("failed", "backend_unavailable")


async def test_a_backend_that_is_full_fails_no_job_however_long_that_lasts(opened, settings, document, monkeypatch):
    answers, submit = [BackendFull("the user has as many jobs as allowed")], SimulatedBackend.submit

    async def full_at_first(self, *values):
        if answers:
            raise answers.pop()
        return await submit(self, *values)

    monkeypatch.setattr(SimulatedBackend, "submit", full_at_first)
    parts = await opened(attrs.evolve(settings, backend_down_seconds=0))
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document("a"))
        assert (await ended(client, "a"))[0]["status"] == "succeeded"
    assert not answers


async def test_a_backend_that_raises_anything_fails_that_job_and_no_other(client, document, away):
    away["submit"] = ZeroDivisionError("a bug of the plug-in")
    await client.post("/train", json=document("a"))
    (job,) = await ended(client, "a")
    del away["submit"]
    assert (job["status"], job["reason"]) == ("failed", "rejected")
    await client.post("/train", json=document("b"))
    assert (await ended(client, "b"))[0]["status"] == "succeeded"


async def test_capacity_that_raises_anything_stops_nobody(client, document, away):
    away["capacity"] = ZeroDivisionError("a bug of the plug-in")
    await client.post("/train", json=document("a"))
    await asyncio.sleep(0.3)
    assert (await client.get("/healthz")).status == 200
    del away["capacity"]
    assert (await ended(client, "a"))[0]["status"] == "succeeded"


async def test_a_cancel_that_the_backend_could_not_take_is_tried_again(client, document, away):
    await client.post("/train", json=document("a", duration_seconds=60))
    await running(client, "a")
    away["cancel"] = BackendUnavailable("the cluster does not answer")
    assert (await client.post("/train/a/cancel")).status == 202
    del away["cancel"]
    assert (await ended(client, "a"))[0]["status"] == "cancelled"


async def test_a_cancel_while_the_job_is_handed_over_ends_it(client, document, monkeypatch):
    called, handed = asyncio.Event(), asyncio.Event()
    real = SimulatedBackend.submit

    async def slow(self, job, attempt, spec):
        called.set()
        await handed.wait()
        return await real(self, job, attempt, spec)

    monkeypatch.setattr(SimulatedBackend, "submit", slow)
    await client.post("/train", json=document("a", duration_seconds=60))
    await asyncio.wait_for(called.wait(), 30)
    answer = await client.post("/train/a/cancel")
    assert (answer.status, (await answer.json())["phase"]) == (202, "stopping")
    handed.set()
    (job,) = await ended(client, "a")
    types = [e["type"] for e in (await (await client.get("/train/a/events")).json())["events"]]
    assert (job["status"], types.count("job.cancelled")) == ("cancelled", 1)


async def test_two_cancels_at_once_make_one_end(client, document):
    await client.post("/train", json=document("a", duration_seconds=60))
    answers = await asyncio.gather(*(client.post("/train/a/cancel") for _ in range(10)))
    assert {a.status for a in answers} <= {200, 202}
    await ended(client, "a")
    types = [e["type"] for e in (await (await client.get("/train/a/events")).json())["events"]]
    assert types.count("job.cancelled") == 1


async def test_the_capacity_of_a_pool_is_told(one_device):
    found = {b["name"]: b for b in (await (await one_device.get("/backends")).json())["backends"]}
    assert found["simulated"]["capacity"]["total"] == {"gpu": 1}
    assert isinstance(Capacity().total, dict)


async def test_secrets_made_for_a_submission_that_never_went_through_are_gone_after_a_cancel(
    client, document, away, settings
):
    away["submit"] = BackendUnavailable("the cluster does not answer")
    secret = document("a", log_lines_per_step=1)
    secret["base_model"]["huggingface_token"] = "hf_very-secret"
    await client.post("/train", json=secret)
    handed_over = settings.jobs_dir / "a" / "secrets.1"
    async with asyncio.timeout(30):
        while not handed_over.exists():
            await asyncio.sleep(0.02)
    assert handed_over.stat().st_mode & 0o077 == 0
    await client.post("/train/a/cancel")
    assert (await ended(client, "a"))[0]["status"] == "cancelled"
    assert not handed_over.exists()


async def test_a_backend_that_hangs_holds_up_no_job_of_another(opened, settings, document, monkeypatch):
    monkeypatch.setattr(dispatch, "_ASK_SECONDS", 120.0)
    parts = await opened()
    called, hangs = asyncio.Event(), asyncio.Event()

    async def never() -> Capacity:
        called.set()
        await hangs.wait()
        return Capacity()

    backend = parts.registry.get("local")
    monkeypatch.setattr(backend, "capacity", never)
    monkeypatch.setattr(backend, "validate_request", lambda request: [])
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document("stuck") | {"backend": "local"})
        await asyncio.wait_for(called.wait(), 30)
        async with asyncio.timeout(30):
            await client.post("/train", json=document("free"))
            (free,) = await ended(client, "free")
    assert free["status"] == "succeeded"
    hangs.set()
