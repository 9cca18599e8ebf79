"""Backends of others beside ours: what they run takes nothing of ours, and one that starts late is started late."""

import sys

import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.app import make_app
from service.parts import open_parts
from tests import elsewhere
from tests.integration.service.own_runs import OwnRun
from tests.integration.service.test_pause_and_resume import until

_GUARDS = """
from backends.local.backend import LocalBackend

class Backend(LocalBackend):
    name = "guards"
"""
_LATE = """
from backends.simulated.backend import SimulatedBackend
from common.errors import BackendUnavailable

class Backend(SimulatedBackend):
    name = "late"
    starts = 0

    async def start(self):
        self.starts += 1
        if self.starts == 1:
            raise BackendUnavailable("its cluster is away")
        await super().start()
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    def install(name, source):
        monkeypatch.syspath_prepend(str(elsewhere.install(tmp_path / "site", name=name, source=source)))
        monkeypatch.delitem(sys.modules, f"{name}_backend", raising=False)

    return install


async def test_a_run_of_another_backend_in_our_folders_takes_no_slot_of_local(settings, tmp_path, installed):
    installed("guards", _GUARDS)
    settings.data_dir.mkdir()
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        run = OwnRun(client, settings.jobs_dir, tmp_path)
        await client.post("/train", json=run.document("sleep 60 & trap 'kill %1' TERM; wait") | {"backend": "guards"})
        await run.claimed(1)
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        free = [(await parts.registry.get(name).capacity()).free["cpu"] for name in ("local", "guards")]
        await OwnRun(client, settings.jobs_dir, tmp_path).end()
        assert free == [1, 0]


async def test_a_backend_that_could_not_start_is_started_before_it_gets_a_job(opened, document, installed):
    installed("late", _LATE)
    async with TestClient(TestServer(make_app(await opened()))) as client:
        assert await _late(client) == (False, "its cluster is away")
        await client.post("/train", json=document() | {"backend": "late"})
        assert (await until(client, lambda job: job["ended_at"]))["status"] == "succeeded"
        assert await _late(client) == (True, None)


async def _late(client):
    rows = (await (await client.get("/backends")).json())["backends"]
    return next((row["healthy"], row["reason"]) for row in rows if row["name"] == "late")
