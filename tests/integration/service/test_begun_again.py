"""A run that its backend itself begins again: a simulated one whose runs are put back whenever the test says so."""

import asyncio
import json
import sys

import pytest
from aiohttp.test_utils import TestClient, TestServer

from common.backend import Change
from common.errors import Unavailable
from common.folder import JobFolder
from service.app import make_app
from service.parts import open_parts
from tests import elsewhere
from tests.integration.service.test_pause_and_resume import kinds, until

_SOURCE = """
import asyncio
from attrs import evolve
from backends.simulated.backend import SimulatedBackend
from common.backend import BackendEvent, RunRestarted
from common.job import Reason

class Backend(SimulatedBackend):
    name = "requeues"
    capabilities = SimulatedBackend.capabilities | {"change"}
    sent, cancelled = [], []

    def watch(self, handle, cursor):
        return self._requeued(handle, super().watch(handle, cursor))

    async def _requeued(self, handle, events):
        mark = self.job_folder(handle.job_id) / f"requeue.{handle.attempt}"
        async for event in events:
            yield event
            if mark.exists():
                again = evolve(handle, attempt=handle.attempt + 1)
                super().watch(again, None)
                yield BackendEvent(what=RunRestarted(reason=Reason.PREEMPTED, handle=again))
                return

    async def send(self, handle, command):
        self.sent.append((handle.attempt, command))

    async def cancel(self, handle, grace):
        self.cancelled.append(handle.attempt)
        await super().cancel(handle, grace)
"""
LASTS = {"duration_seconds": 60, "steps": 1200, "log_lines_per_step": 1}


@pytest.fixture
def opened(opened, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(elsewhere.install(tmp_path / "site", name="requeues", source=_SOURCE)))
    monkeypatch.delitem(sys.modules, "requeues_backend", raising=False)
    return opened


@pytest.fixture
def folder(settings):
    return JobFolder(settings.jobs_dir / "job-1")


async def begin(client, document, **extra):
    asked = document(**LASTS, **extra) | {"backend": "requeues"}
    assert (await client.post("/train", json=asked)).status == 201
    await until(client, lambda job: job["status"] == "running" and job["progress"])


async def requeue(client, folder, attempt=1):
    (folder.path / f"requeue.{attempt}").touch()
    return await until(client, lambda job: job["attempt"] == attempt + 1 and job["status"] == "running")


async def test_what_was_changed_holds_for_the_run_that_was_begun_again(client, parts, document, folder):
    await begin(client, document, max_retries=1)
    (uid,) = [job.uid for job in parts.watch.live()]
    change = {"tuning_parameters": {"save_steps": 7}, "resources": {"max_duration_minutes": 33}}
    assert (await client.patch("/train/job-1", json=change)).status == 202
    sent = parts.registry.get("requeues").sent
    async with asyncio.timeout(10):
        while len(sent) < 2:
            await asyncio.sleep(0.02)
    await requeue(client, folder)
    (waiting,) = {command.id for _, command in sent if "deadline_minutes" not in command.values}
    async with asyncio.timeout(10):
        while (2, Change(id=waiting, values={"tuning_parameters.save_steps": 7})) not in sent:
            await asyncio.sleep(0.02)
    assert json.loads(folder.spec.read_text())["deadline_minutes"] == 33
    assert (await parts.store.job_by_uid(uid)).handle.attempt == 2
    await client.post("/train/job-1/cancel")


async def test_the_next_attempt_is_told_whole_or_not_at_all(client, parts, document, folder, monkeypatch):
    real, refused = parts.store.append, 0

    async def busy(uid, bodies, **more):
        nonlocal refused
        if not refused and bodies and bodies[-1].type == "job.submitted":
            refused += 1
            raise Unavailable("the writer's queue is full")
        return await real(uid, bodies, **more)

    await begin(client, document, max_retries=1)
    monkeypatch.setattr(parts.store, "append", busy)
    assert (await requeue(client, folder))["backend_job_id"] is not None
    names, _ = await kinds(client)
    assert (refused, names.count("job.retrying"), names.count("job.submitted")) == (1, 1, 2)
    await client.post("/train/job-1/cancel")


async def test_a_restarted_service_knows_that_a_run_was_begun_again_once_too_often(opened, settings, document, folder):
    settings.data_dir.mkdir(exist_ok=True)
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        await begin(client, document)

        async def hangs(*_):
            await asyncio.Event().wait()

        parts.registry.get("requeues").cancel = hangs
        await requeue(client, folder)
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        job = await until(client, lambda job: job["ended_at"])
        assert (job["status"], job["reason"], job["attempt"]) == ("failed", "preempted", 2)
        assert job["detail"] == ("failed (preempted): requeues began it again once more than max_retries (0) allows")


async def test_a_cancel_that_the_run_before_was_asked_for_reaches_the_next_one(client, parts, document, folder):
    await begin(client, document, max_retries=1)
    backend, go_on, asked = parts.registry.get("requeues"), asyncio.Event(), []
    real = backend.cancel

    async def slow(handle, grace):
        asked.append(handle.attempt)
        if handle.attempt == 1:  # taken by the run before, which Slurm has put back into its queue meanwhile
            await go_on.wait()
        else:
            await real(handle, grace)

    backend.cancel = slow
    await client.post("/train/job-1/cancel")
    (folder.path / "requeue.1").touch()
    await until(client, lambda job: job["attempt"] == 2)
    go_on.set()
    assert (await until(client, lambda job: job["ended_at"]))["status"] == "cancelled"
    assert asked == [1, 2]
