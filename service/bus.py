"""Fans committed events out: a ring of the newest, bounded in bytes, and readers that are cursors (DESIGN, 5).

Everything here runs on the event loop. `publish` is called by the writer alone, after COMMIT, in the order of ids.
"""

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import AsyncIterator, Sequence
from functools import cached_property
from itertools import islice
from operator import attrgetter

from attrs import frozen

from service.store.base import Store, StoredEvent

_PAGE = 500


@frozen(slots=True)
class Frame:
    """A committed event, encoded once for SSE."""

    id: int
    uid: str
    ends: bool
    sse: bytes


class Batch(list[Frame]):
    """Frames that belong together; readers at one place share them, and their bytes."""

    @cached_property
    def sse(self) -> bytes:
        """All of them, to be written at once."""
        return self[0].sse if len(self) == 1 else b"".join(made.sse for made in self)


def frame(event: StoredEvent) -> Frame:
    """The event as an SSE message (contract train.md, 4)."""
    return Frame(
        event.id, event.uid, event.ends, f"id: {event.id}\nevent: {event.type}\ndata: {event.text}\n\n".encode()
    )


class Bus:
    """The ring and the wake-ups.

    A reader asks `frames(uid, after)`; what is no longer in the ring is read from the store, and there is no await
    between finding the ring complete from the cursor on and reading it, so nothing falls between the two.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._bytes = 0
        self._all: deque[Frame] = deque()
        self._of_job: dict[str, deque[Frame]] = {}
        self._waiters: dict[str | None, set[asyncio.Future[None]]] = {}
        self._batches: dict[tuple[str | None, int], Batch] = {}
        self.newest = 0
        self.oldest_kept = 0
        """Every event with a larger id than this is in the ring."""
        self.closed = False

    def begin(self, newest: int) -> None:
        """Told once at start: the newest id that is stored."""
        self.newest = self.oldest_kept = newest

    def publish(self, events: Sequence[StoredEvent]) -> None:
        """Take committed events and wake their readers."""
        self._batches.clear()
        for event in events:
            made = frame(event)
            self._all.append(made)
            self._of_job.setdefault(made.uid, deque()).append(made)
            self._bytes += len(made.sse)
        self.newest = events[-1].id
        while self._bytes > self._limit and len(self._all) > 1:
            self._drop_oldest()
        for key in {None, *(event.uid for event in events)}:
            self._wake(key)

    def _drop_oldest(self) -> None:
        oldest = self._all.popleft()
        self._bytes -= len(oldest.sse)
        self.oldest_kept = oldest.id
        line = self._of_job[oldest.uid]
        line.popleft()
        if not line:
            del self._of_job[oldest.uid]

    def _wake(self, key: str | None) -> None:
        for waiter in self._waiters.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Wake every reader for the last time."""
        self.closed = True
        for key in list(self._waiters):
            self._wake(key)

    def in_ring(self, uid: str | None, after: int) -> Batch | None:
        """What the ring has behind `after`; None when it may lack some of it. Readers at one place share the answer."""
        if after < self.oldest_kept:
            return None
        key = (uid, after)
        found = self._batches.get(key)
        if found is None:
            line = self._all if uid is None else self._of_job.get(uid, ())
            newest_first = []
            for made in reversed(line):
                if made.id <= after:
                    break
                newest_first.append(made)
                if len(newest_first) > _PAGE:  # far behind: the next page, so that no slow reader holds all of the ring
                    start = bisect_right(line, after, key=attrgetter("id"))
                    newest_first = list(islice(line, start, start + _PAGE))[::-1]
                    break
            found = self._batches[key] = Batch(reversed(newest_first))
        return found

    async def wait(self, uid: str | None) -> None:
        """Until the next event of the job (None: of any)."""
        waiter = asyncio.get_running_loop().create_future()
        waiting = self._waiters.setdefault(uid, set())
        waiting.add(waiter)
        try:
            await waiter
        finally:
            waiting.discard(waiter)
            if not waiting and self._waiters.get(uid) is waiting:
                del self._waiters[uid]

    async def frames(self, store: Store, uid: str | None, after: int) -> AsyncIterator[Batch]:
        """Batches of frames behind `after`, for ever, until the bus is closed."""
        while not self.closed:
            batch = self.in_ring(uid, after)
            if batch is None:
                seen = self.newest
                batch = Batch(frame(event) for event in await store.events(uid, after, _PAGE))
                if not batch:
                    after = seen  # a quiet job: up to there it has nothing, whatever the ring dropped meanwhile
                    continue
            if batch:
                after = batch[-1].id
                yield batch
            else:
                await self.wait(uid)
