"""A run is killed between the rename of its checkpoint and the event: the service tells it, also when killed itself."""

import asyncio
import json

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from backends.local.backend import LocalBackend
from service.app import make_app
from service.parts import open_parts
from tests.integration.service.own_runs import OwnRun


@pytest.fixture(autouse=True)
def as_ours(monkeypatch):
    """A shell stands in for our trainer: nobody waits for its imports."""
    real = LocalBackend.build_job_spec
    monkeypatch.setattr(
        LocalBackend, "build_job_spec", lambda self, request: attrs.evolve(real(self, request), engine="text")
    )


def lay(run, step):
    saved = run.places / "out" / run.job_id / "checkpoints" / f"step-{step}"
    saved.mkdir(parents=True)
    (saved / "adapter.safetensors").write_bytes(b"12345")
    spec = json.loads(run.folder.spec.read_text())
    assert spec["output"] == str(run.places / "out" / run.job_id)
    record = {"format": 1, "uid": spec["uid"], "attempt": "1.0", "step": step}
    (saved / "checkpoint.json").write_text(json.dumps(record | {"files": {"adapter.safetensors": [5, "sum"]}}))
    return saved


@pytest.mark.slow
async def test_it_is_told_before_the_retry_which_goes_on_from_it(settings, tmp_path, monkeypatch):
    settings.data_dir.mkdir()
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        run = OwnRun(client, settings.jobs_dir, tmp_path)
        await run.begin(max_retries=1)
        saved = lay(run, 8)
        closed, real = asyncio.Event(), parts.store.append

        async def killed(uid, bodies, **more):
            if [body.type for body in bodies if body.type == "job.retrying"]:
                closed.set()
                await asyncio.Event().wait()
            return await real(uid, bodies, **more)

        monkeypatch.setattr(parts.store, "append", killed)
        run.kill_all()
        async with asyncio.timeout(30):
            await closed.wait()
        assert await run.events("checkpoint") == []
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        run = OwnRun(client, settings.jobs_dir, tmp_path)
        await run.until(lambda job: job["attempt"] == 2 and job["status"] == "running", seconds=30)
        kinds = [(event["type"], event["attempt"]) for event in await run.events()]
        at = kinds.index(("job.retrying", 2))
        assert kinds[at - 1 : at + 1] == [("job.checkpoint", 1), ("job.retrying", 2)]
        assert [event["data"]["resumed_from"] for event in await run.events("retrying")] == [8]
        _, listed = await run.call("GET", "/checkpoints")
        assert [(entry["step"], entry["uri"], entry["attempt"]) for entry in listed["checkpoints"]] == [
            (8, str(saved), 1),
        ]
        await run.end()
        assert len(await run.events("checkpoint")) == 1
