"""Where a job's folder lies, and how its log goes along when the backend changes."""

import pytest
from attrs import evolve

from backends.registry import Registry
from common.backend import BackendContext
from common.clock import Clock
from common.devices import DevicePool
from common.errors import BackendUnavailable, Unavailable
from common.event import JobFailed, JobQueued, JobSubmitted
from common.job import Reason
from common.settings import Settings
from service.folders import Folders
from service.store.base import NewJob
from tests import elsewhere
from tests.stores import store_in


@pytest.fixture
async def store(tmp_path):
    async with store_in(tmp_path) as made:
        texts = {"document": "{}", "spec": "{}", "warnings": "[]", "lane": "", "labels": {}, "hooks": {}, "secrets": {}}
        await made.add_job(NewJob(uid="u", job_id="a", backend="local", priority=0, **texts))
        yield made


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(elsewhere.install(tmp_path / "site")))
    return Registry(BackendContext(settings=Settings(data_dir=tmp_path), clock=Clock(), devices=DevicePool()))


@pytest.fixture
async def moved(store):
    """The job, run once on `local` and queued again for the other backend."""
    await store.append("u", [JobSubmitted(backend="local"), JobFailed(reason=Reason.KILLED)])
    return await store.append("u", [JobQueued(changes={"backend": elsewhere.NAME})])


async def test_a_jobs_folder_is_where_the_backend_that_took_it_keeps_it(store, registry, moved, tmp_path):
    folders = Folders(store, registry)
    assert (await folders.newest(moved)).path == tmp_path / "jobs" / "a"
    assert (await folders.of_attempt(moved, 1)).path == tmp_path / "jobs" / "a"
    assert (await folders.of_attempt(moved, 2)).path == tmp_path / "elsewhere" / "a"
    moved = await store.append("u", [JobSubmitted(backend=elsewhere.NAME)])
    assert (await folders.newest(moved)).path == tmp_path / "elsewhere" / "a"


async def test_the_log_goes_along_with_its_hole_as_often_as_it_is_brought(store, registry, moved, tmp_path):
    source = tmp_path / "jobs" / "a" / "train.log"
    source.parent.mkdir(parents=True)
    with source.open("wb") as file:
        file.write(b"head\n")
        file.seek(64 << 20)
        file.write(b"tail\n")
    folders = Folders(store, registry)
    for _ in range(2):
        await folders.bring_log(moved)
    target = tmp_path / "elsewhere" / "a" / "train.log"
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_blocks * 512 < 8 << 20
    assert (target.stat().st_mode & 0o077, target.parent.stat().st_mode & 0o077) == (0, 0)
    assert [path.name for path in target.parent.iterdir()] == ["train.log"]


async def test_a_log_that_can_not_be_brought_lets_the_job_wait(store, registry, moved, tmp_path):
    (tmp_path / "jobs" / "a").mkdir(parents=True)
    (tmp_path / "jobs" / "a" / "train.log").write_text("line\n")
    (tmp_path / "elsewhere").write_text("a file is in the way")
    with pytest.raises(BackendUnavailable, match="log of earlier attempts can't be written"):
        await Folders(store, registry).bring_log(moved)


async def test_a_backend_that_is_gone_is_named(store, registry, moved):
    with pytest.raises(Unavailable, match="'gone' is not registered"):
        await Folders(store, registry).of_attempt(evolve(moved, backend="gone"), 2)
