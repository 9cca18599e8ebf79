"""The one thread that writes: it takes all that waits as one transaction, in which one bad item fails alone."""

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import structlog

from common.errors import StorageFull, Unavailable
from service.store.base import Publish, StoredEvent

log = structlog.get_logger(__name__)

_BATCH = 512
_FATAL = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_IDLE_SECONDS = 5.0
_PAGES_TO_FREE = 1000

Work = Callable[[sqlite3.Connection, list[StoredEvent]], Any]
"""What is to be written, and the list for its events; run again, after a rollback, when another item fails."""


class _Item:
    __slots__ = ("error", "future", "result", "work")

    def __init__(self, work: Work, future: "asyncio.Future[Any]") -> None:
        self.work = work
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """Runs pieces of work on the writing connection.

    After each COMMIT the loop is woken once: `publish` gets the events in the order of their ids, then the results are
    set. `fatal` holds the error after which nothing can be written any more; then `on_fatal` is called.
    """

    def __init__(
        self, connect: Callable[[], sqlite3.Connection], publish: Publish, limit: int, on_fatal: Callable[[], None]
    ) -> None:
        self._connect = connect
        self._publish = publish
        self._limit = limit
        self._on_fatal = on_fatal
        self._urgent: deque[_Item] = deque()
        self._later: deque[_Item] = deque()
        self._ready = threading.Condition()
        self._closing = False
        self._waking = False
        self._loop = asyncio.get_running_loop()
        self.fatal: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._urgent) + len(self._later)

    async def do(self, work: Work, *, urgent: bool = False) -> Any:
        """Run `work` in the next transaction and return what it returned, after COMMIT.

        Raises what `work` raised, `Unavailable` when the queue is full or the writer gave up, and `StorageFull`.
        """
        item = _Item(work, self._loop.create_future())
        with self._ready:
            if self.fatal is not None or self._closing:
                raise Unavailable("the store takes no writes any more; the service is stopping")
            if self.waiting >= self._limit:
                raise Unavailable(f"the writer's queue is full ({self._limit}); try again in a second")
            (self._urgent if urgent else self._later).append(item)
        if not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)
        return await item.future

    def _wake(self) -> None:
        """Once for all that was asked for in this turn of the loop: it becomes one transaction."""
        self._waking = False
        with self._ready:
            if self.waiting:  # else the thread has done it already, and this would look like idleness to it
                self._ready.notify()

    async def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        connection = self._connect()
        batch: list[_Item] | None = None
        try:
            while (batch := self._take(connection)) is not None:
                self._transact(connection, batch)
        except Exception as e:  # nobody may wait for ever for a thread that is gone
            with self._ready:
                self.fatal = e
                left = [*(batch or ()), *self._urgent, *self._later]
            for item in left:
                item.error = Unavailable(f"the database can't be written: {e}")
            self._loop.call_soon_threadsafe(self._settle, left, [])
            log.exception("the store's writer died")
        finally:
            connection.close()

    def _take(self, connection: sqlite3.Connection) -> list[_Item] | None:
        """All that waits, urgent first; None at the end. Checkpoints the log when idle."""
        idle = False
        while True:
            with self._ready:
                if not self.waiting and not self._closing:
                    self._ready.wait(None if idle else _IDLE_SECONDS)
                if self.waiting:
                    return [(self._urgent or self._later).popleft() for _ in range(min(self.waiting, _BATCH))]
                if self._closing:
                    return None
            if not idle:
                self._tidy(connection)
            idle = True

    def _tidy(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.execute(f"PRAGMA incremental_vacuum({_PAGES_TO_FREE})").fetchall()
        except sqlite3.Error as e:
            self._failed(connection, e)
            if self.fatal is not None:
                self._loop.call_soon_threadsafe(self._on_fatal)

    def _transact(self, connection: sqlite3.Connection, batch: list[_Item]) -> None:
        events: list[StoredEvent] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            if not self._all(connection, batch, events):
                connection.execute("ROLLBACK")
                events.clear()
                connection.execute("BEGIN IMMEDIATE")
                for item in batch:
                    self._one(connection, item, events)
            connection.execute("COMMIT")
        except sqlite3.Error as e:
            events.clear()
            error = self._failed(connection, e)
            for item in batch:
                item.error = error
        self._loop.call_soon_threadsafe(self._settle, batch, events)

    def _settle(self, batch: list[_Item], events: list[StoredEvent]) -> None:
        if events:
            self._publish(events)
        for item in batch:
            if item.future.done():
                continue
            if item.error is not None:
                item.future.set_exception(item.error)
            else:
                item.future.set_result(item.result)
        if self.fatal is not None:
            self._on_fatal()

    def _all(self, connection: sqlite3.Connection, batch: list[_Item], events: list[StoredEvent]) -> bool:
        """Run the items, without a savepoint each; False when one failed that had written something."""
        for item in batch:
            made: list[StoredEvent] = []
            before = connection.total_changes
            try:
                item.result = item.work(connection, made)
            except sqlite3.OperationalError:
                raise
            except Exception as e:  # as in `_one`
                if connection.total_changes != before:
                    return False
                item.error = e
            else:
                events.extend(made)
        return True

    def _one(self, connection: sqlite3.Connection, item: _Item, events: list[StoredEvent]) -> None:
        made: list[StoredEvent] = []
        item.error = None
        connection.execute("SAVEPOINT item")
        try:
            item.result = item.work(connection, made)
        except sqlite3.OperationalError:
            raise
        except Exception as e:  # whatever the item raises is its caller's; the other items go on
            item.error = e
            connection.execute("ROLLBACK TO item")
        else:
            events.extend(made)
        connection.execute("RELEASE item")

    def _failed(self, connection: sqlite3.Connection, error: sqlite3.Error) -> Exception:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            return StorageFull("the disk of the data directory is full; free some space and try again")
        log.error("store write failed", error=str(error), code=code)
        if code in _FATAL:
            self.fatal = error
            return Unavailable(f"the database can't be written: {error}")
        return Unavailable(f"the database did not take the write: {error}")
