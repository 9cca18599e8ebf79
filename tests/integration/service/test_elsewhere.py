"""A job that goes on with another backend, which keeps its job folders elsewhere: real guards, two local backends."""

import asyncio
import json
import sys

import pytest
from aiohttp.test_utils import TestClient, TestServer

from common.folder import JobFolder
from service.app import make_app
from service.parts import open_parts
from tests import elsewhere
from tests.integration.service.own_runs import OwnRun

TELLS = 'sleep 60 & trap "kill %1; echo stopped; exit 3" TERM; echo "run $TRAINYARD_RUN is here"; wait'


@pytest.fixture
def also() -> str:
    """More members of the other backend."""
    return ""


@pytest.fixture
def opened(also, opened, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(elsewhere.install(tmp_path / "site", also)))
    monkeypatch.delitem(sys.modules, f"{elsewhere.NAME}_backend", raising=False)
    return opened


@pytest.fixture
def there(settings):
    """The job's folder with the other backend."""
    return JobFolder(settings.data_dir / elsewhere.NAME / "own")


async def said(run, *lines):
    """The whole log, as soon as these lines are in it."""
    async with asyncio.timeout(60):
        while True:
            log = await (await run.client.get(f"{run.path}/logs")).text()
            if all(line in log for line in lines):
                return log
            await asyncio.sleep(0.05)


async def go_on(run, backend):
    await run.call("POST", "/pause")
    await run.until(lambda job: job["phase"] == "paused")
    return await run.call("POST", "/resume", {"backend": backend})


async def followed(run):
    return await (await run.client.get(f"{run.path}/logs?follow=true")).text()


def items(count):
    return [{"n": n, "type": "progress", "data": {"step": n}} for n in range(1, count + 1)]


async def test_log_and_events_over_both_folders_are_whole_and_in_order(run, there):
    await run.begin(TELLS)
    await said(run, ".1.0 is here")
    follower, here = asyncio.create_task(followed(run)), run.folder
    assert (await run.post(items(2)))[0] == 200
    secrets = json.loads(here.secrets(1).read_text())
    assert (await go_on(run, elsewhere.NAME))[0] == 202
    log = await said(run, ".1.0 is here", ".2.0 is here")
    assert log.index(".1.0 is here") < log.index("stopped") < log.index("── attempt 2.0") < log.index(".2.0 is here")
    run.folder = there
    assert (await run.post(items(3), attempt=2))[0] == 200
    token = {"Authorization": f"Bearer {secrets['job_token']}"}
    late = await run.client.post("/" + secrets["events_url"].split("/", 3)[3], json=items(3), headers=token)
    assert late.status == 410
    assert (await go_on(run, "local"))[0] == 202
    await said(run, ".1.0 is here", ".2.0 is here", ".3.0 is here")
    await run.end()
    whole = await said(run, ".3.0 is here")
    assert [whole.count(f"── attempt {n}.0") for n in (1, 2, 3)] == [1, 1, 1]
    assert [line.split(".", 1)[1] for line in whole.splitlines() if line.startswith("run ")] == [
        *("1.0 is here", "2.0 is here", "3.0 is here"),
    ]
    assert await follower == whole
    submitted = [(e["attempt"], e["data"]["backend"]) for e in await run.events("submitted")]
    assert submitted == [(1, "local"), (2, elsewhere.NAME), (3, "local")]
    assert [e["data"]["step"] for e in await run.events("progress")] == [1, 2, 1, 2, 3]


async def test_nothing_is_left_that_could_write_or_be_read_in_either_folder(run, there):
    await run.begin(TELLS)
    await go_on(run, elsewhere.NAME)
    await said(run, ".2.0 is here")
    await run.end()
    folders = (run.folder, there)
    assert [str(folder.fence()) for folder in folders] == ["2.0", "3.0"]
    left = [path.name for folder in folders for path in folder.path.rglob("*") if path.is_file()]
    assert not {"secrets.1", "secrets.2", "job_token"} & set(left)


async def test_the_copied_log_of_the_document_goes_on_over_both(run, tmp_path):
    await run.begin(TELLS)
    await said(run, ".1.0 is here")
    await go_on(run, elsewhere.NAME)
    await said(run, ".2.0 is here")
    await run.end()
    whole = await said(run, ".2.0 is here")
    copy = tmp_path / "logs" / "own" / "train.log"
    async with asyncio.timeout(60):
        while not copy.exists() or copy.read_bytes() != whole.encode():
            await asyncio.sleep(0.05)


async def test_a_run_is_found_again_in_its_own_folder_after_a_restart(opened, settings, there, tmp_path):
    settings.data_dir.mkdir(exist_ok=True)
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        run = OwnRun(client, settings.jobs_dir, tmp_path)
        document = run.document('echo here; while [ ! -e go ]; do sleep 0.05; done; echo "goes on"')
        await client.post("/train", json=document | {"backend": elsewhere.NAME})
        await said(run, "here")
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        run = OwnRun(client, settings.jobs_dir, tmp_path)
        held = [(await parts.registry.get(name).capacity()).free["cpu"] for name in ("local", elsewhere.NAME)]
        assert held == [1, 0]
        (there.path / "go").touch()
        job = await run.until(lambda job: job["ended_at"])
        assert (job["status"], job["attempt"]) == ("succeeded", 1)
        await said(run, "goes on")


@pytest.mark.parametrize("also", [elsewhere.BLIND], ids=["blind"])
async def test_a_checkpoint_that_the_other_backend_can_not_read_is_named_and_the_job_stays(run):
    await run.begin(TELLS)
    saved = await run.save(7)
    status, problem = await go_on(run, elsewhere.NAME)
    (error,) = problem["errors"]
    assert (status, error["path"]) == (400, "backend")
    assert error["message"] == f"'elsewhere' can't read the checkpoint of step 7, {saved}; 'local' can"
    assert (await run.job())["phase"] == "paused"
    assert (await run.call("POST", "/resume"))[0] == 202
