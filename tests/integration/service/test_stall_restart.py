"""A service that is stopped between a stall that it told and the end of the run."""

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer

from backends.simulated.backend import SimulatedBackend
from common.errors import BackendUnavailable
from service.app import make_app
from service.parts import open_parts
from tests.integration.service.test_pause_and_resume import kinds, until
from tests.integration.service.test_retries import STALLS


async def stalled(client):
    async with asyncio.timeout(20):
        while "job.stalled" not in (await kinds(client))[0]:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("retries", "attempt"), [(0, 1), (1, 2)])
async def test_the_reason_stays_stalled_and_is_told_once(settings, document, monkeypatch, retries, attempt):
    real = SimulatedBackend.cancel

    async def away(self, handle, grace):
        raise BackendUnavailable("away")

    monkeypatch.setattr(SimulatedBackend, "cancel", away)
    settings.data_dir.mkdir()
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document(**STALLS, max_retries=retries))
        await stalled(client)
    monkeypatch.setattr(SimulatedBackend, "cancel", real)
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        job = await until(client, lambda job: job["ended_at"])
        assert (job["status"], job["reason"], job["attempt"]) == ("failed", "stalled", attempt)
        names, events = await kinds(client)
        assert [e["attempt"] for e in events if e["type"] == "job.stalled"] == list(range(1, attempt + 1))
        assert [e["data"]["reason"] for e in events if e["type"] == "job.retrying"] == ["stalled"] * retries
        assert names[-1] == "job.failed"
