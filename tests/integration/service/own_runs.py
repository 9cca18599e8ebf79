"""Runs of a shell program in the trainer's place, under real guards, and what they post."""

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient

from common.folder import JobFolder

SLEEPS = "sleep 60 & trap 'kill %1; exit 3' TERM; wait"
DEAF = "trap '' TERM; while :; do sleep 0.1; done"


class OwnRun:
    """One job of the service in this process."""

    def __init__(self, client: TestClient, jobs: Path, places: Path, job_id: str = "own") -> None:
        self.client, self.job_id, self.places = client, job_id, places
        self.path = f"/train/{job_id}"
        self.folder = JobFolder(jobs / job_id)

    def document(self, program: str, **extra: Any) -> dict[str, Any]:
        return {
            "job_id": self.job_id,
            "base_model": {"provider": "custom", "model_name": "mine"},
            "resources": {"gpus": 0},
            "datasets": [{"source": "s3://bucket/rows", "format": "imagefolder"}],
            "artifacts": {"log_uri": str(self.places / "logs"), "output_uri": str(self.places / "out")},
            "extra_parameters": {"command": ["sh", "-c", program], **extra},
        }

    async def begin(self, program: str = SLEEPS, **extra: Any) -> None:
        answer = await self.client.post("/train", json=self.document(program, **extra))
        assert answer.status == 201, await answer.text()
        await self.claimed(1)
        await self.until(lambda job: job["status"] == "running")

    async def claimed(self, attempt: int) -> None:
        """The guard has said who it is."""
        async with asyncio.timeout(60):
            while not (self.folder.path / "attempts" / f"{attempt}.0" / "owner.json").exists():
                await asyncio.sleep(0.02)

    async def job(self) -> Any:
        return await (await self.client.get(self.path)).json()

    async def until(self, holds: Any, seconds: float = 60) -> Any:
        late = time.monotonic() + seconds
        while not holds(job := await self.job()):
            assert time.monotonic() < late, (job, (await self.events())[-1])
            await asyncio.sleep(0.02)
        return job

    async def events(self, kind: str | None = None) -> list[Any]:
        found = (await (await self.client.get(f"{self.path}/events?limit=1000")).json())["events"]
        assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
        return [event for event in found if kind is None or event["type"] == f"job.{kind}"]

    async def call(self, method: str, what: str = "", body: object = None) -> tuple[int, Any]:
        answer = await self.client.request(method, self.path + what, json=body)
        return answer.status, await answer.json()

    async def post(self, items: object, attempt: int = 1) -> tuple[int, Any]:
        secrets = json.loads(self.folder.secrets(attempt).read_text())
        path, token = "/" + secrets["events_url"].split("/", 3)[3], secrets["job_token"]
        answer = await self.client.post(path, json=items, headers={"Authorization": f"Bearer {token}"})
        return answer.status, await answer.json()

    async def save(self, step: int, n: int = 1) -> Path:
        """A checkpoint as such a program may tell one."""
        saved = self.places / "out" / f"checkpoint-{step}"
        saved.mkdir(parents=True)
        told = {"n": n, "type": "checkpoint", "data": {"step": step, "uri": str(saved)}}
        assert (await self.post([told]))[0] == 200
        async with asyncio.timeout(60):
            while not await self.events("checkpoint"):
                await asyncio.sleep(0.02)
        return saved

    def kill_all(self, pair: str = "1.0") -> None:
        """The guard and the program, as a machine that dies would: nobody writes an outcome."""
        guard = json.loads((self.folder.path / "attempts" / pair / "owner.json").read_text())["pid"]
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(guard, signal.SIGKILL)

    async def end(self) -> None:
        await self.call("POST", "/cancel")
        await self.until(lambda job: job["ended_at"])
