"""The store's promises (service/store/base.py)."""

import asyncio
import sqlite3

import attrs
import pytest

from common.backend import Handle
from common.clock import Clock
from common.errors import Conflict, IllegalMove, NotFound, StaleEvent, StartError, StorageFull, Unavailable
from common.event import JobCancelled, JobLog, JobProgress, JobRunning, JobSubmitted
from common.secret import SecretBox
from service.store import sqlite
from service.store.base import Changes, NewJob
from service.store.queries import load, migrations
from service.store.sqlite import open_store
from tests.stores import store_in

NEW = NewJob(
    uid="u1",
    job_id="a",
    backend="simulated",
    priority=0,
    lane="simulated/free",
    labels={},
    document="{}",
    spec="{}",
    warnings="[]",
    hooks={"webhook": ["job.queued", "job.progress"]},
    secrets={},
)


@pytest.fixture
async def store(tmp_path):
    published = []
    async with store_in(tmp_path, published.extend, event_bytes=8192) as made:
        made.published = published
        yield made


async def test_events_are_published_after_the_commit_in_the_order_of_their_ids(store):
    await store.add_job(NEW)
    await asyncio.gather(*(store.add_job(attrs.evolve(NEW, uid=f"v{n}", job_id=f"b{n}")) for n in range(50)))
    ids = [event.id for event in store.published]
    assert ids == sorted(ids) == [event.id for event in await store.events(None, 0, 100)]


async def test_a_bad_item_fails_alone(store):
    await store.add_job(NEW)
    results = await asyncio.gather(
        store.append("u1", [JobRunning()]),
        store.append("nobody", [JobRunning()]),
        store.append("u1", [JobProgress(step=1)]),
        return_exceptions=True,
    )
    assert isinstance(results[1], NotFound)
    assert (await store.job("a")).job.last_sequence == 3


async def test_of_several_events_all_are_appended_or_none(store):
    await store.add_job(NEW)
    with pytest.raises(IllegalMove):
        await store.append("u1", [JobRunning(), JobProgress(step=1), JobSubmitted(backend="x")])
    assert (await store.job("a")).job.last_sequence == 1
    assert len(store.published) == 1


async def test_an_append_on_an_old_version_is_a_conflict(store):
    record, _ = await store.add_job(NEW)
    await store.append("u1", [JobRunning()])
    with pytest.raises(Conflict):
        await store.append("u1", [JobCancelled()], if_version=record.version)


async def test_an_event_of_an_older_attempt_is_stale(store):
    await store.add_job(NEW)
    with pytest.raises(StaleEvent):
        await store.append("u1", [JobRunning()], attempt=0)


async def test_a_handle_and_a_wish_are_kept_and_a_new_attempt_has_neither_handle(store):
    await store.add_job(NEW)
    handle = Handle(uid="u1", job_id="a", attempt=1, data={"devices": ["0"]})
    await store.append("u1", [JobSubmitted(backend="simulated")], changes=Changes(handle=handle))
    assert (await store.job("a")).handle == handle
    assert await store.lanes() == []


async def test_waiting_jobs_come_by_priority_then_age(store):
    for n, priority in enumerate((0, 5, 0, 5)):
        await store.add_job(attrs.evolve(NEW, uid=f"u{n}", job_id=f"j{n}", priority=priority))
    assert [r.job.job_id for r in await store.waiting("simulated/free", 0, 10)] == ["j1", "j3", "j0", "j2"]
    assert await store.lanes() == ["simulated/free"]


async def test_an_event_is_never_larger_than_its_limit_and_says_when_it_was_cut(store):
    await store.add_job(NEW)
    text = "ä" * 50_000
    await store.append(
        "u1", [JobRunning(), JobLog(line=text), JobLog(line="x", extra={f"k{n}": text for n in range(9)})]
    )
    for event in (await store.events("u1", 0, 10))[2:]:
        assert len(event.text.encode()) <= 8192 + 20
        assert '"truncated":true' in event.text


async def test_numbers_and_texts_that_json_lacks_do_not_break_the_log(store):
    await store.add_job(NEW)
    odd = JobProgress(step=1, loss=float("nan"), extra={"note": "\ud800", "most": float("inf")})
    await store.append("u1", [JobRunning(), odd])
    assert '"loss":null' in (await store.events("u1", 0, 10))[2].text


async def test_time_never_goes_back_within_a_job(tmp_path):
    class Back(Clock):
        at = 1_000_000.0

        def now(self):
            self.at -= 10
            return self.at

    store = await open_store(
        *(tmp_path / "t.db", SecretBox(bytes(32)), Back(), lambda events: None),
        writer_queue=10,
        event_bytes=8192,
        on_fatal=lambda: None,
    )
    await store.add_job(NEW)
    job = await store.append("u1", [JobRunning(), JobProgress(step=1)])
    assert job.started_at == job.created_at
    await store.close()


async def test_waiting_progress_is_replaced_by_the_newest(store):
    await store.add_job(NEW)
    await store.append("u1", [JobRunning(), *(JobProgress(step=n) for n in range(1, 6))])
    rows = await store._read("SELECT type FROM deliveries ORDER BY id")
    assert [row[0] for row in rows] == ["job.queued", "job.progress"]


async def test_a_full_queue_refuses(store):
    store._writer._limit = 0
    with pytest.raises(Unavailable, match="queue is full"):
        await store.add_job(NEW)
    store._writer._limit = 10


class Breaking(sqlite3.Connection):
    """A connection whose COMMIT fails as a disk would make it; its ROLLBACK too where that is asked for."""

    code = 0
    rollback = True

    def execute(self, statement, *values):
        if statement == "ROLLBACK" and not Breaking.rollback:
            raise sqlite3.OperationalError("no way back")
        if statement == "COMMIT" and Breaking.code:
            error = sqlite3.OperationalError("disk trouble")
            error.sqlite_errorcode = Breaking.code
            raise error
        return super().execute(statement, *values)


@pytest.mark.parametrize(
    ("code", "error", "fatal"),
    [
        (sqlite3.SQLITE_FULL, StorageFull, False),
        (sqlite3.SQLITE_IOERR_FSYNC, Unavailable, True),
        (sqlite3.SQLITE_BUSY, Unavailable, False),
    ],
)
async def test_a_failed_commit_answers_everybody_and_a_failed_fsync_ends_the_service(
    tmp_path, monkeypatch, code, error, fatal
):
    told = []
    monkeypatch.setattr(sqlite, "connect", lambda path: sqlite3.connect(path, isolation_level=None, factory=Breaking))
    store = await open_store(
        *(tmp_path / "t.db", SecretBox(bytes(32)), Clock(), lambda events: None),
        writer_queue=10,
        event_bytes=8192,
        on_fatal=lambda: told.append(True),
    )
    monkeypatch.setattr(Breaking, "code", code)
    with pytest.raises(error):
        await store.add_job(NEW)
    monkeypatch.setattr(Breaking, "code", 0)
    await asyncio.sleep(0)
    assert bool(told) == fatal
    if not fatal:
        assert (await store.add_job(NEW))[1]
    await store.close()


async def test_a_writer_that_dies_leaves_nobody_waiting_and_ends_the_service(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sqlite, "connect", lambda path: sqlite3.connect(path, isolation_level=None, factory=Breaking))
    store = await open_store(
        *(tmp_path / "t.db", SecretBox(bytes(32)), Clock(), lambda events: None),
        writer_queue=10,
        event_bytes=8192,
        on_fatal=lambda: told.append(True),
    )
    monkeypatch.setattr(Breaking, "code", sqlite3.SQLITE_BUSY)
    monkeypatch.setattr(Breaking, "rollback", False)
    async with asyncio.timeout(5):
        with pytest.raises(Unavailable, match="can't be written"):
            await store.add_job(NEW)
    assert told
    await store.close()


async def test_a_newer_a_foreign_and_a_broken_database_are_refused_with_a_sentence(tmp_path):
    newer, foreign, broken = (tmp_path / name for name in ("newer.db", "foreign.db", "broken.db"))
    sqlite.migrate(newer)
    with sqlite3.connect(newer) as connection:
        connection.execute(f"PRAGMA user_version = {len(migrations()) + 1}")
    connection.close()
    foreign_connection = sqlite3.connect(foreign)
    foreign_connection.execute("CREATE TABLE x (y)")
    foreign_connection.close()
    broken.write_bytes(b"no database" * 1000)
    for path, says in ((newer, "newer Trainyard"), (foreign, "another program"), (broken, "can't be opened")):
        with pytest.raises(StartError, match=says):
            sqlite.migrate(path)


def test_the_database_is_readable_by_its_owner_alone(tmp_path):
    sqlite.migrate(tmp_path / "t.db")
    assert (tmp_path / "t.db").stat().st_mode & 0o077 == 0


def test_every_query_has_a_name_and_a_description():
    for module in ("jobs", "events", "deliveries"):
        assert all(load(module).values())
