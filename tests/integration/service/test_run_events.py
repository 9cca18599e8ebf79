"""What runs of a trainer of the caller's own post, and who may: real guards, and the service in this process."""

import asyncio
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp.test_utils import TestClient

from backends.local.backend import LocalBackend
from common.folder import JobFolder
from common.settings import Settings
from service.parts import Parts

SLEEPS = ["sh", "-c", "sleep 60 & trap 'kill %1; exit 3' TERM; wait"]


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    """With another grace, where a test says so."""
    return attrs.evolve(settings, grace_seconds=getattr(request, "param", settings.grace_seconds))


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(job_id: str = "own", *command: str, **extra: Any) -> dict[str, Any]:
        return {
            "job_id": job_id,
            "base_model": {"provider": "custom", "model_name": "mine"},
            "resources": {"gpus": 0},
            "datasets": [{"source": "s3://bucket/rows", "format": "imagefolder"}],
            "artifacts": {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "out")},
            "extra_parameters": {"command": list(command) or SLEEPS, **extra},
        }

    return make


class Run:
    """A run that was started, and what it would post."""

    def __init__(self, client: TestClient, parts: Parts, job_id: str) -> None:
        self.client, self.job_id, self.n = client, job_id, 1
        self.folder = JobFolder(parts.settings.jobs_dir / job_id)
        self.path, self.token = "", ""

    async def begin(self) -> "Run":
        async with asyncio.timeout(60):
            while not self.folder.restarts(self.n):
                await asyncio.sleep(0.02)
        secrets = json.loads(self.folder.secrets(self.n).read_text())
        self.path, self.token = "/" + secrets["events_url"].split("/", 3)[3], secrets["job_token"]
        return self

    async def post(self, items: object, token: str | None = None, **headers: str) -> tuple[int, Any]:
        given = {"Authorization": f"Bearer {token or self.token}", **headers}
        async with self.client.post(self.path, json=items, headers=given) as answer:
            return answer.status, await answer.json()

    async def job(self, *statuses: str) -> Any:
        late = time.monotonic() + 60
        while True:
            job = await (await self.client.get(f"/train/{self.job_id}")).json()
            if not statuses or job["status"] in statuses or job["phase"] in statuses:
                return job
            assert time.monotonic() < late, job
            await asyncio.sleep(0.02)

    async def events(self, kind: str) -> list[Any]:
        page = await (await self.client.get(f"/train/{self.job_id}/events")).json()
        return [event for event in page["events"] if event["type"] == f"job.{kind}"]


@pytest.fixture
async def started(client: TestClient, parts: Parts, own: Callable[..., Any]) -> Any:
    begun: list[Run] = []

    async def start(document: dict[str, Any]) -> Run:
        async with client.post("/train", json=document) as answer:
            assert answer.status == 201, await answer.text()
        begun.append(Run(client, parts, document["job_id"]))
        return await begun[-1].begin()

    yield start
    for run in begun:
        await client.post(f"/train/{run.job_id}/cancel")
        await run.job("succeeded", "failed", "cancelled")


def progress(n: int) -> dict[str, Any]:
    return {"n": n, "type": "progress", "data": {"step": n, "total_steps": 9}}


async def test_posted_events_are_the_jobs_events_and_commands_come_back(started: Any, own: Any) -> None:
    run = await started(own())
    assert await run.post([progress(1), progress(2)]) == (200, {"accepted_through": 2, "commands": []})
    status, said = await run.post([progress(1), progress(4)])
    assert (status, said["accepted_through"], said["error"]["n"]) == (200, 2, 3)
    await run.job("running")
    async with asyncio.timeout(60):
        while len(await run.events("progress")) < 2:
            await asyncio.sleep(0.02)
    assert [event["data"]["step"] for event in await run.events("progress")] == [1, 2]
    asked = await (await run.client.post("/train/own/checkpoint")).json()
    command = {"id": asked["command_id"], "command": "checkpoint"}
    for _ in range(2):
        assert (await run.post([]))[1]["commands"] == [command]
    ack = {"n": 3, "type": "ack", "data": {"id": command["id"], "ok": True}}
    assert (await run.post([ack]))[1] == {"accepted_through": 3, "commands": []}


async def test_a_change_is_told_when_the_program_takes_it(started: Any, own: Any) -> None:
    run = await started(own())
    await run.job("running")
    async with run.client.patch("/train/own", json={"tuning_parameters": {"max_steps": 5}}) as answer:
        assert answer.status == 202
    async with asyncio.timeout(60):
        while not (commands := (await run.post([]))[1]["commands"]):
            await asyncio.sleep(0.02)
    assert commands[0]["values"] == {"tuning_parameters.max_steps": 5}
    assert await run.events("changed") == []
    await run.post([{"n": 1, "type": "ack", "data": {"id": commands[0]["id"], "ok": True, "step": 4}}])
    async with asyncio.timeout(60):
        while not (changed := await run.events("changed")):
            await asyncio.sleep(0.02)
    assert changed[0]["data"]["step"] == 4


@pytest.mark.parametrize("settings", [3.0], indirect=True)
async def test_a_program_that_never_acknowledges_is_ended_all_the_same(started: Any, own: Any) -> None:
    run = await started(own("own", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"))
    await run.job("running")
    await run.client.post("/train/own/checkpoint")
    await run.client.post("/train/own/pause")
    _, said = await run.post([])
    assert [(c["command"], c.get("why")) for c in said["commands"]] == [("checkpoint", None), ("stop", "pause")]
    assert (await run.job("paused"))["status"] == "queued"
    status, said = await run.post([progress(1)])
    assert (status, said["error"]["code"]) == (410, "conflict")


async def test_after_its_end_a_run_gets_410(started: Any, own: Any) -> None:
    run = await started(own("own", "sh", "-c", "sleep 0.3"))
    await run.job("succeeded")
    assert (await run.post([]))[0] == 410


async def test_another_attempt_has_another_token(started: Any, own: Any) -> None:
    waits = "case $TRAINYARD_RUN in *.2.0) exec sleep 60;; esac; while [ ! -e go ]; do sleep 0.05; done; kill -9 $$"
    run = await started(own("own", "sh", "-c", waits, max_retries=1))
    old, path = run.token, run.path
    (run.folder.path / "go").touch()
    run.n = 2
    await run.begin()
    assert (run.token != old, run.path != path) == (True, True)
    assert (await run.post([]))[0] == 200
    assert (await run.post([], token=old))[0] == 401
    run.path, run.token = path, old
    assert (await run.post([]))[0] == 410


async def test_only_its_own_token_opens_a_runs_url_and_nothing_else(started: Any, own: Any, parts: Parts) -> None:
    run = await started(own())
    for token in ("wrong", "wröng", f"{run.token}x"):
        assert (await run.post([progress(1)], token=token))[0] == 401
    async with run.client.post(run.path, json=[]) as answer:
        assert answer.status == 401
    for path in (run.path.replace("/own/", "/none/"), run.path.replace("/1/", "/2/"), run.path.replace("/1/", "/x/")):
        async with run.client.post(path, json=[], headers={"Authorization": f"Bearer {run.token}"}) as answer:
            assert answer.status == 401, path
    assert (await run.post([], **{"X-Forwarded-For": "203.0.113.9", "Host": "trainyard.example.org"}))[0] == 200
    async with run.client.get("/train/own", headers={"Via": "x", "Authorization": f"Bearer {run.token}"}) as answer:
        assert answer.status == 403


async def test_another_jobs_token_is_refused(started: Any, own: Any, parts: Parts) -> None:
    first = await started(own("first", "sh", "-c", "sleep 0.5"))
    await first.job("succeeded")
    second = await started(own("second"))
    assert (await second.post([progress(1)], token=first.token))[0] == 401


async def test_too_much_and_other_bodies_are_refused(started: Any, own: Any) -> None:
    run = await started(own())
    assert (await run.post([progress(n) for n in range(1, 502)]))[0] == 413
    large = io.BytesIO(json.dumps([{"n": 1, "type": "log", "data": {"message": "x" * (1 << 20)}}]).encode())
    headers = {"Authorization": f"Bearer {run.token}", "Content-Type": "application/json"}
    async with run.client.post(run.path, data=large, headers=headers) as answer:
        assert answer.status == 413
    assert (await run.post({"n": 1}))[0] == 400
    assert (await run.post([progress(n) for n in range(1, 501)]))[1]["accepted_through"] == 500


async def test_the_token_is_masked_in_log_and_events(started: Any, own: Any) -> None:
    run = await started(own("own", "sh", "-c", "env; while [ ! -e go ]; do sleep 0.05; done"))
    await run.post([{"n": 1, "type": "log", "data": {"message": f"token={run.token}"}}])
    (run.folder.path / "go").touch()
    await run.job("succeeded")
    (said,) = await run.events("log")
    log = await (await run.client.get("/train/own/logs")).text()
    assert said["data"]["message"] == "token=••••"
    assert "TRAINYARD_JOB_TOKEN=••••" in log
    assert run.token not in log
    left = [path.name for path in run.folder.path.rglob("*") if path.is_file()]
    assert "job_token" not in left and "secrets.1" not in left


async def test_kubeflow_statuses_are_progress(started: Any, own: Any) -> None:
    run = await started(own())
    run.path += "/kubeflow"
    status = {"trainerStatus": {"progressPercentage": 40, "estimatedRemainingSeconds": 7, "metrics": []}}
    assert await run.post(status) == (200, status)
    assert (await run.post({}))[0] == 400
    assert (await run.post(status, token="wrong"))[0] == 401
    async with asyncio.timeout(60):
        while not (job := await run.job())["progress"]:
            await asyncio.sleep(0.02)
    assert (job["progress"]["percent"], job["progress"]["eta_seconds"]) == (40, 7)
    assert len(await run.events("progress")) == 1


async def test_where_runs_could_not_reach_the_service_a_command_is_a_400(
    client: TestClient, own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalBackend, "on_this_machine", False)
    async with client.post("/train", json=own()) as answer:
        (error,) = (await answer.json())["errors"]
    assert (answer.status, error["path"]) == (400, "extra_parameters.command")
    assert "TRAINYARD_PUBLIC_URL is not set" in error["message"]
