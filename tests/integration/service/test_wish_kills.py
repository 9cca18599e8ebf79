"""The service is killed in the middle of granting a wish: the next one grants it, and no attempt stays half closed."""

import asyncio

import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.app import make_app
from service.parts import open_parts
from tests.integration.service.own_runs import OwnRun


@pytest.mark.parametrize(("wish", "phase", "status"), [("pause", "paused", "queued"), ("cancel", None, "cancelled")])
async def test_a_wish_for_a_waiting_job_survives_a_kill_before_it_is_told(
    settings, tmp_path, monkeypatch, wish, phase, status
):
    settings.data_dir.mkdir()
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        waits, runs = (OwnRun(client, settings.jobs_dir, tmp_path, name) for name in ("waits", "runs"))
        await waits.begin()
        await waits.call("POST", "/pause")
        await waits.until(lambda job: job["phase"] == "paused")
        await runs.begin()
        await waits.call("POST", "/resume")
        await waits.until(lambda job: job["detail"])  # for the one CPU slot
        killed, real = asyncio.Event(), parts.handover.close_attempt

        async def closes(job):
            await real(job)
            killed.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(parts.handover, "close_attempt", closes)
        request = asyncio.create_task(waits.call("POST", f"/{wish}"))
        await killed.wait()
        request.cancel()
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        waits, runs = (OwnRun(client, settings.jobs_dir, tmp_path, name) for name in ("waits", "runs"))
        await runs.end()
        job = await waits.until(lambda job: job["ended_at"] or job["phase"] == "paused")
        assert (job["phase"], job["status"]) == (phase, status)
