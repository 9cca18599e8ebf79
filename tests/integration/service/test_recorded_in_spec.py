"""What a resume, or a change of a waiting job, gave reaches the next run's spec.json, which its manifest is made of."""

import asyncio
import json

from aiohttp.test_utils import TestClient, TestServer

from common.folder import JobFolder
from service.app import make_app
from tests.integration.service.test_pause_and_resume import until

LASTS = {"duration_seconds": 60, "steps": 1200, "log_lines_per_step": 1}


async def test_the_next_run_is_told_what_it_need_not_repeat(parts, settings, document):
    spec = JobFolder(settings.jobs_dir / "job-1").spec
    async with TestClient(TestServer(make_app(parts))) as client:
        assert (await client.post("/train", json=document(**LASTS))).status == 201
        await until(client, lambda job: job["status"] == "running")
        assert "recorded" not in json.loads(spec.read_text())
        assert (await client.post("/train/job-1/pause")).status == 202
        await until(client, lambda job: job["phase"] == "paused")
        patch = {"tuning_parameters": {"save_steps": 7, "learning_rate": 0.5}}
        assert (await client.patch("/train/job-1", json=patch)).status == 202
        given = {"tuning_parameters": {"learning_rate": 0.25}, "resources": {"max_duration_minutes": 30}}
        assert (await client.post("/train/job-1/resume", json=given)).status == 202
        await until(client, lambda job: job["status"] == "running" and job["attempt"] == 2)
        known = json.loads(await asyncio.to_thread(spec.read_text))
        assert known["changes"] == []
        assert known["recorded"] == [
            {"step": 0, "values": {"tuning_parameters.save_steps": 7}},
            {"step": 0, "values": {"tuning_parameters.learning_rate": 0.25, "resources.max_duration_minutes": 30}},
        ]
        shown = (await (await client.get("/train/job-1")).json())["metadata"]["job_spec"]
        assert "recorded" not in shown
        await client.post("/train/job-1/cancel")
