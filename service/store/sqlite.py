"""The store in SQLite: one writing thread, a few reading connections (DESIGN, Store)."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from common.backend import Cursor
from common.clock import Clock
from common.errors import NotFound, StartError
from common.event import Body
from common.job import Job, Reason
from common.json_text import to_text
from common.secret import SecretBox
from service.store import deliveries, events, jobs
from service.store.base import (
    EVERYTHING,
    Attempted,
    Changes,
    Counts,
    Delivery,
    Filters,
    JobRecord,
    NewJob,
    Publish,
    Scope,
    Store,
    StoredEvent,
)
from service.store.jobs import Appending
from service.store.queries import migrations
from service.store.reader import Reader, open_reader
from service.store.writer import Writer

APPLICATION_ID = 0x54594152  # "TYAR"
_BUSY_SECONDS = 5.0
_JOURNAL_BYTES = 64 << 20


def connect(path: Path) -> sqlite3.Connection:
    """A connection with this project's settings; autocommit, so that transactions are written out."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS, check_same_thread=False)
    _configure(connection.execute)
    return connection


def _configure(execute: Callable[[str], Any]) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "wal_autocheckpoint = 1000",
        f"journal_size_limit = {_JOURNAL_BYTES}",
        "mmap_size = 0",
        "temp_store = MEMORY",
    ):
        execute(f"PRAGMA {pragma}")


def migrate(path: Path) -> None:
    """Bring the database to the newest version. Raises `StartError` for one that is not ours or is newer."""
    path.touch(mode=0o600)
    fresh = path.stat().st_size == 0  # also where a first start was killed before it wrote anything
    connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        if fresh:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _configure(connection.execute)
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StartError(f"{path} is a database of another program; choose another --data-dir")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        steps = migrations()
        if version > len(steps):
            raise StartError(
                f"{path} is of a newer Trainyard (schema {version}, this one knows {len(steps)});"
                " upgrade Trainyard or choose another --data-dir"
            )
        for number, script in enumerate(steps[version:], version + 1):
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")
    except sqlite3.DatabaseError as e:
        raise StartError(f"{path} can't be opened as a database: {e}") from e
    finally:
        connection.close()


class SqliteStore(Store):
    """See `Store`. Make it by `open_store`."""

    def __init__(self, writer: Writer, reader: Reader, how: Appending) -> None:
        self._writer = writer
        self._reader = reader
        self._read = reader.many
        self._find = reader.few
        self._how = how

    @property
    def writes_waiting(self) -> int:
        return self._writer.waiting

    @property
    def fatal(self) -> BaseException | None:
        return self._writer.fatal

    # Jobs

    async def add_job(self, new: NewJob) -> tuple[JobRecord, bool]:
        record: JobRecord | str = await self._writer.do(
            lambda connection, out: jobs.add(connection, out, new, self._how), urgent=True
        )
        return (await self.job_by_uid(record), False) if isinstance(record, str) else (record, True)

    async def same(self, job_id: str, document: str) -> JobRecord | None:
        try:
            record = await self.job(job_id)
        except NotFound:
            return None
        return record if jobs.same(record.document, document) else None

    async def append(
        self,
        uid: str,
        bodies: Sequence[Body],
        *,
        attempt: int | None = None,
        cursor: Cursor | None = None,
        changes: Changes | None = None,
        if_version: int | None = None,
        urgent: bool = False,
    ) -> Job:
        def work(connection: sqlite3.Connection, out: list[StoredEvent]) -> Job:
            return jobs.append(
                connection,
                out,
                uid,
                bodies,
                attempt=attempt,
                cursor=cursor,
                changes=changes or Changes(),
                if_version=if_version,
                how=self._how,
            )

        job: Job = await self._writer.do(work, urgent=urgent)
        return job

    async def set_detail(self, uid: str, detail: str | None) -> None:
        await self._writer.do(
            lambda connection, _: connection.execute(jobs.SQL["set_detail"], (detail, uid, detail)).rowcount
        )

    async def job(self, job_id: str, scope: Scope = EVERYTHING) -> JobRecord:
        values = {"job_id": job_id, "owner": scope.owner, "tenant": scope.tenant}
        rows = await self._find(jobs.SQL["by_name"], values)
        if not rows:
            raise NotFound(f"there is no job {job_id!r}")
        return jobs.record(rows[0])

    async def job_by_uid(self, uid: str) -> JobRecord:
        rows = await self._find(jobs.SQL["by_uid"], (uid,))
        if not rows:
            raise NotFound(f"there is no job with uid {uid!r}")
        return jobs.record(rows[0])

    async def jobs(self, scope: Scope, filters: Filters, before: int | None, limit: int) -> list[JobRecord]:
        query, values = jobs.listing(scope, filters, before, limit)
        return [jobs.record(row) for row in await self._read(query, values)]

    async def to_adopt(self, after: int, limit: int) -> list[JobRecord]:
        return [jobs.record(row) for row in await self._read(jobs.SQL["to_adopt"], (after, limit))]

    async def last_accepted(self) -> int:
        (row,) = await self._find(jobs.SQL["last_accepted"])
        return int(row[0])

    async def lanes(self) -> list[str]:
        return [row[0] for row in await self._find(jobs.SQL["lanes"])]

    async def waiting(self, lane: str, now: float, limit: int, without: Collection[str] = ()) -> list[JobRecord]:
        arguments = (lane, now, to_text([*without]), limit)
        return [jobs.record(row) for row in await self._find(jobs.SQL["waiting"], arguments)]

    async def submissions(self, uid: str) -> list[tuple[int, str]]:
        rows = await self._find(events.SQL["submissions"], (uid,))
        return [(row[0], row[1]) for row in rows]

    async def stalled(self, uid: str, attempt: int) -> bool:
        return bool(await self._find(events.SQL["stalls"], (uid, attempt)))

    async def retries(self, uid: str) -> list[Reason]:
        rows = await self._find(jobs.SQL["retries"], (uid,))
        return [Reason(row[1]) for row in takewhile(lambda row: row[0] != "job.queued", rows)]

    async def secrets(self, uid: str) -> dict[str, str]:
        rows = await self._find(jobs.SQL["secrets"], (uid,))
        return self._how.box.open(uid, rows[0][0]) if rows else {}

    # Events

    async def events(self, uid: str | None, after: int, limit: int) -> list[StoredEvent]:
        if uid is None:
            rows = await self._read(events.SQL["of_all"], (after, limit))
        else:
            rows = await self._find(events.SQL["of_job"], (uid, after, limit))
        return [events.stored(*row) for row in rows]

    async def event_bounds(self) -> tuple[int, int]:
        (row,) = await self._find(events.SQL["bounds"])
        return row[0], row[1]

    async def told(self, after: int, newest: int) -> set[str]:
        return {row[0] for row in await self._read(events.SQL["told"], (after, newest))}

    async def checkpoints(self, uid: str) -> list[str]:
        rows = await self._read(events.SQL["checkpoints"], (uid,))
        return [events.served(row[0], row[1]) for row in rows]

    async def metrics(self, uid: str, after: int, limit: int) -> list[str]:
        return [row[0] for row in await self._read(events.SQL["metrics"], (uid, after, limit))]

    async def cursor(self, uid: str, attempt: int) -> Cursor | None:
        rows = await self._find(events.SQL["cursor"], (uid, attempt))
        return Cursor(file=rows[0][0], n=rows[0][1], offset=rows[0][2]) if rows else None

    # Deliveries

    async def due_deliveries(self, now: float, limit: int) -> list[Delivery]:
        return [deliveries.due(tuple(row)) for row in await self._read(deliveries.SQL["due"], (now, limit))]

    async def next_delivery(self) -> float | None:
        (row,) = await self._read(deliveries.SQL["next"])
        return None if row[0] is None else float(row[0])

    async def delivery_tried(self, delivery: Delivery, result: Attempted) -> None:
        await self._writer.do(lambda connection, _: deliveries.tried(connection, delivery, result))

    # The rest

    async def counts(self) -> Counts:
        by_status = await self._read(jobs.SQL["count_jobs"])
        by_state = await self._read(deliveries.SQL["count_deliveries"])
        _, newest = await self.event_bounds()
        return Counts(
            jobs={row[0]: row[1] for row in by_status}, events=newest, deliveries={row[0]: row[1] for row in by_state}
        )

    async def check(self) -> None:
        if self._writer.fatal is not None:
            raise self._writer.fatal
        await self._writer.do(lambda connection, _: connection.execute("SELECT 1").fetchone(), urgent=True)
        await self._read("SELECT 1")

    async def close(self) -> None:
        await self._writer.close()
        await self._reader.close()


async def open_store(
    path: Path,
    box: SecretBox,
    clock: Clock,
    publish: Publish,
    *,
    writer_queue: int,
    event_bytes: int,
    on_fatal: Callable[[], None],
) -> SqliteStore:
    """Migrate and open. `publish` gets committed events, in the order of their ids, on the loop."""
    await asyncio.to_thread(migrate, path)
    reader = await open_reader(path)
    writer = Writer(lambda: connect(path), publish, writer_queue, on_fatal)
    writer.start()
    return SqliteStore(writer, reader, Appending(clock=clock, box=box, event_bytes=event_bytes))
