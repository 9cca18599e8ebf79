"""What Slurm's accounting remembers of jobs that its controller has forgotten: many asked for by one call."""

import asyncio
from collections.abc import Iterable

from backends.slurm.client import Transport
from backends.slurm.rows import Row, name_of
from common.errors import BackendUnavailable

_GATHERED_SECONDS = 0.2
_MOST = 200
_LONG_AGO = "now-30days"


class Accounting:
    """One question at a time, for all who ask meanwhile."""

    def __init__(self, cluster: Transport) -> None:
        self._cluster = cluster
        self._waiting: dict[str, asyncio.Future[list[Row]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """End what is under way; those who wait are told that there is no answer."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _refuse(self._waiting.values(), BackendUnavailable("the service stops"))
        self._waiting.clear()

    async def row(self, job_id: str, uid: str, attempt: int, owner: int | None = None) -> Row | None:
        """The job of an attempt; None where accounting has none, or there is no accounting.

        Of several (a submission was made again) the one with the number `owner`, else the newest. Raises
        `BackendUnavailable` where it does not answer.
        """
        name = name_of(job_id, uid, attempt)
        if name not in self._waiting:
            self._waiting[name] = asyncio.get_running_loop().create_future()
        future = self._waiting[name]
        if self._task is None:
            self._task = asyncio.create_task(self._ask())
        rows = await asyncio.shield(future)
        return next((row for row in rows if row.id == owner), rows[-1] if rows else None)

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_GATHERED_SECONDS)
                names = list(self._waiting)[:_MOST]
                asked = {name: self._waiting.pop(name) for name in names}
                await self._answer(asked)
        finally:
            self._task = None

    async def _answer(self, asked: dict[str, "asyncio.Future[list[Row]]"]) -> None:
        try:
            rows = await self._cluster.accounted(list(asked), _LONG_AGO)
        except asyncio.CancelledError:
            _refuse(asked.values(), BackendUnavailable("the service stops"))
            raise
        except Exception as e:  # whatever it is, it is for those who asked
            _refuse(asked.values(), e)
            return
        for name, future in asked.items():
            _, uid, attempt = name.rsplit(".", 2)
            future.set_result([row for row in rows if (row.uid, row.attempt) == (uid, int(attempt))])


def _refuse(asked: "Iterable[asyncio.Future[list[Row]]]", error: Exception) -> None:
    for future in asked:
        future.set_exception(error)
        future.exception()  # somebody may have left
