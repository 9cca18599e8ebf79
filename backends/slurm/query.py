"""The one question to Slurm that serves every live job: asked at most once in a poll interval."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog
from attrs import field, frozen

from backends.slurm.client import Transport
from backends.slurm.rows import Row
from backends.slurm.states import Stage, is_known, stage
from common.clock import Clock
from common.errors import BackendUnavailable

log = structlog.get_logger(__name__)

Key = tuple[str, int]


@frozen(kw_only=True)
class Look:
    """What one question found. `rows` are by uid and attempt; None where Slurm did not answer, with the reason."""

    number: int = 0
    began: float = float("-inf")
    rows: Mapping[Key, Sequence[Row]] | None = None
    away: str | None = None

    def of(self, uid: str, attempt: int, preferred: int | None) -> Row | None:
        """The job of an attempt. Of several (a submission was made again) the one that claimed it, then a live one."""
        found = (self.rows or {}).get((uid, attempt), ())
        return next((row for row in found if row.id == preferred), None) or max(found, key=_liveliness, default=None)


def _liveliness(row: Row) -> tuple[bool, bool, int]:
    return stage(row.state) is Stage.RUNS, stage(row.state) is Stage.WAITS, row.id


class Poll:
    """Looks at the queue while somebody wants to know."""

    def __init__(self, cluster: Transport, clock: Clock, seconds: float) -> None:
        self._cluster = cluster
        self._clock = clock
        self.seconds = seconds
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.newest = Look()
        self.asked = 0
        """How many questions there were."""
        self._strange: set[str] = set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def away(self) -> str | None:
        """Why Slurm does not answer, where it is being asked at all."""
        return self.newest.away if self._task is not None else None

    @contextmanager
    def used(self) -> Iterator[None]:
        """Inside the block looks are taken."""
        self._users += 1
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._users -= 1

    async def news(self, number: int) -> Look:
        """The newest look, once it is another than `number`."""
        while self.newest.number == number:
            await self._news.wait()
        return self.newest

    async def fresh(self) -> Look:
        """A look that begins after this call."""
        now = self._clock.monotonic()
        with self.used():
            while self.newest.began < now:
                await self.news(self.newest.number)
            return self.newest

    async def _run(self) -> None:
        try:
            while self._users:
                wait = self.newest.began + self.seconds - self._clock.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                self.newest = await self._look_safely()
                self._news.set()
                self._news = asyncio.Event()
                await asyncio.sleep(0)  # those who waited for it leave before the next is begun
        finally:
            self._task = None

    async def _look_safely(self) -> Look:
        """A look, whatever goes wrong: all who follow a run wait for the next one."""
        number, began = self.newest.number + 1, self._clock.monotonic()
        try:
            return await self._look(number, began)
        except Exception as e:
            log.exception("Slurm's queue can't be read; jobs stay as they are")
            return Look(number=number, began=began, away=f"Slurm's queue can't be read: {type(e).__name__}: {e}")

    async def _look(self, number: int, began: float) -> Look:
        self.asked += 1
        try:
            found = await self._cluster.rows()
        except BackendUnavailable as e:
            if self.newest.away != e.message:
                log.warning("Slurm's queue can't be seen; jobs stay as they are", error=e.message)
            return Look(number=number, began=began, away=e.message)
        rows: dict[Key, list[Row]] = {}
        for row in found:
            rows.setdefault((row.uid, row.attempt), []).append(row)
            if not is_known(row.state) and row.state not in self._strange:
                self._strange.add(row.state)
                log.warning("Slurm has a state that is not known here; it is taken for a live one", state=row.state)
        return Look(number=number, began=began, rows=rows)


@frozen
class Missing:
    """Since when Slurm has not listed a job: by its time, and by how many answers."""

    since: float | None = None
    answers: int = field(default=0)

    def after(self, now: float, *, listed: bool) -> "Missing":
        """After one more answer; a question without one changes nothing."""
        if listed:
            return Missing()
        return Missing(now if self.since is None else self.since, self.answers + 1)

    def is_gone(self, now: float, seconds: float) -> bool:
        """One empty answer never means that a job is gone."""
        return self.since is not None and self.answers > 1 and now - self.since >= seconds
