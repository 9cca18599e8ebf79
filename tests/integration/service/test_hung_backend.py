"""A backend that does not answer costs its own jobs time, and nobody else's: neither requests nor other jobs."""

import asyncio
import time

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from backends import registry
from backends.simulated.backend import SimulatedBackend
from common.errors import BackendUnavailable
from service import handover, orders
from service.app import make_app
from service.parts import open_parts
from tests import elsewhere
from tests.integration.service.test_pause_and_resume import LONG, until

_QUICK = 9.0
_SOURCE = """
from backends.simulated.backend import SimulatedBackend

class Backend(SimulatedBackend):
    name = "hung"
"""


@pytest.fixture
def opened(opened, tmp_path, monkeypatch):
    """A second simulated backend, whose methods hang where the test says so."""
    source = (
        "from backends.simulated.backend import SimulatedBackend\nclass Backend(SimulatedBackend):\n    name = 'hung'\n"
    )
    monkeypatch.syspath_prepend(str(elsewhere.install(tmp_path / "site", name="hung", source=source)))
    return opened


@pytest.fixture
def hang(parts, monkeypatch):
    """Make a method of the other backend hang; what is returned lets it go on."""
    backend = parts.registry.get("hung")

    def make(name):
        go_on, real = asyncio.Event(), getattr(backend, name)

        async def hung(*values):
            await go_on.wait()
            return await real(*values)

        monkeypatch.setattr(backend, name, hung)
        return go_on

    return make


async def running(client, document, name, **extra):
    await client.post("/train", json=document(name, **{**LONG, **extra}) | {"backend": "hung"})
    await until(client, lambda job: job["status"] == "running", name)


async def quickly(answer):
    began = time.monotonic()
    status = (await answer).status
    assert time.monotonic() - began < _QUICK
    return status


async def is_free(client, document, name="free"):
    async with asyncio.timeout(20):
        await client.post("/train", json=document(name))
        assert (await until(client, lambda job: job["ended_at"], name))["status"] == "succeeded"


async def test_a_cancel_that_hangs_is_answered_at_once_and_holds_up_nobody(client, document, hang):
    await running(client, document, "a")
    await running(client, document, "b")
    go_on = hang("cancel")
    assert await quickly(client.post("/train/a/cancel")) == 202
    assert await quickly(client.post("/train/b/pause")) == 202
    assert await quickly(client.post("/train/b/pause")) == 200
    await is_free(client, document)
    go_on.set()
    assert (await until(client, lambda job: job["ended_at"], "a"))["status"] == "cancelled"
    await until(client, lambda job: job["phase"] == "paused", "b")


async def test_a_cancel_that_hangs_is_in_the_log_with_its_reason(client, document, hang, monkeypatch):
    monkeypatch.setattr(orders, "_ASK_SECONDS", 0.1)
    await running(client, document, "a")
    go_on = hang("cancel")
    with capture_logs() as logs:
        await client.post("/train/a/cancel")
        async with asyncio.timeout(20):
            while not (waits := [line for line in logs if line["event"] == "cancel waits for the backend"]):
                await asyncio.sleep(0.02)
    assert (waits[0]["job_id"], waits[0]["error"]) == ("a", "no answer within 0.1 s")
    go_on.set()
    await until(client, lambda job: job["ended_at"], "a")


async def test_withdrawals_that_hang_hold_up_no_other(client, parts, document, hang, monkeypatch):
    backend = parts.registry.get("hung")

    async def refuse(*_):
        raise BackendUnavailable("away")

    monkeypatch.setattr(handover, "_ASK_SECONDS", 0.5)
    monkeypatch.setattr(backend, "submit", refuse)
    for name in ("a", "b"):
        await client.post("/train", json=document(name) | {"backend": "hung"})
    await asyncio.sleep(0.3)
    go_on = hang("find")
    began = time.monotonic()
    answers = await asyncio.gather(*(client.post(f"/train/{name}/cancel") for name in ("a", "b")))
    assert [answer.status for answer in answers] == [202, 202]
    assert time.monotonic() - began < _QUICK
    await is_free(client, document)
    go_on.set()
    for name in ("a", "b"):
        assert (await until(client, lambda job: job["ended_at"], name))["status"] == "cancelled"


async def test_a_submission_that_hangs_holds_up_no_other_backend(client, document, hang):
    go_on = hang("submit")
    await client.post("/train", json=document("stuck", **LONG) | {"backend": "hung"})
    await asyncio.sleep(0.1)
    assert await quickly(client.post("/train/stuck/cancel")) == 202
    await is_free(client, document)
    go_on.set()
    assert (await until(client, lambda job: job["ended_at"], "stuck"))["status"] == "cancelled"


async def test_a_backend_that_hangs_when_it_is_closed_keeps_the_service_from_no_end(settings, monkeypatch):
    async def never(_):
        await asyncio.sleep(60)

    monkeypatch.setattr(registry, "_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(SimulatedBackend, "close", never)
    settings.data_dir.mkdir()
    async with asyncio.timeout(10), open_parts(settings, pytest.fail) as parts:
        assert parts.registry.get("simulated")


async def test_giving_up_on_a_backend_fails_no_job_that_it_takes_at_that_moment(
    opened, settings, document, monkeypatch
):
    """Of two submissions one is refused when the time is over, and the other goes through right then."""
    handed, refused = asyncio.Event(), asyncio.Event()
    real = SimulatedBackend.submit

    async def submit(self, job, attempt, spec):
        if job.job_id == "refused":
            await handed.wait()
            refused.set()
            raise BackendUnavailable("away")
        handed.set()
        await refused.wait()
        await asyncio.sleep(0.3)
        return await real(self, job, attempt, spec)

    monkeypatch.setattr(SimulatedBackend, "submit", submit)
    parts = await opened(attrs.evolve(settings, backend_down_seconds=0))
    async with TestClient(TestServer(make_app(parts))) as client:
        for name in ("refused", "taken"):
            await client.post("/train", json=document(name))
        assert (await until(client, lambda job: job["ended_at"], "refused"))["reason"] == "backend_unavailable"
        assert (await until(client, lambda job: job["ended_at"], "taken"))["status"] == "succeeded"


async def test_a_job_that_is_changed_while_it_is_refused_is_failed_all_the_same(parts, client, document, monkeypatch):
    async def submit(self, job, attempt, spec):
        assert (await client.patch("/train/a", json={"priority": 4})).status == 202
        raise ZeroDivisionError("a fault of the plug-in")

    real, met = parts.handover.close_attempt, []

    async def closing(job):
        await real(job)
        if len(met) < 3:
            met.append(True)
            assert (await client.patch("/train/a", json={"labels": {"n": str(len(met))}})).status == 202

    monkeypatch.setattr(SimulatedBackend, "submit", submit)
    monkeypatch.setattr(parts.handover, "close_attempt", closing)
    await client.post("/train", json=document("a"))
    job = await until(client, lambda job: job["ended_at"], "a")
    assert (job["status"], job["reason"], job["labels"]) == ("failed", "rejected", {"n": "3"})
