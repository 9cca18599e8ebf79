"""What Slurm's accounting remembers of jobs that its controller has forgotten: many asked for by one call."""

import asyncio

from backends.slurm.client import Transport
from backends.slurm.rows import Row, name_of

_GATHERED_SECONDS = 0.2
_MOST = 200
_LONG_AGO = "now-30days"


class Accounting:
    """One question at a time, for all who ask meanwhile."""

    def __init__(self, cluster: Transport) -> None:
        self._cluster = cluster
        self._waiting: dict[str, asyncio.Future[Row | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def row(self, job_id: str, uid: str, attempt: int) -> Row | None:
        """The newest job of an attempt; None where accounting has none, or there is no accounting.

        Raises `BackendUnavailable` where it does not answer.
        """
        name = name_of(job_id, uid, attempt)
        if name not in self._waiting:
            self._waiting[name] = asyncio.get_running_loop().create_future()
        future = self._waiting[name]
        if self._task is None:
            self._task = asyncio.create_task(self._ask())
        return await asyncio.shield(future)

    async def _ask(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(_GATHERED_SECONDS)
                names = list(self._waiting)[:_MOST]
                asked = {name: self._waiting.pop(name) for name in names}
                await self._answer(asked)
        finally:
            self._task = None

    async def _answer(self, asked: dict[str, "asyncio.Future[Row | None]"]) -> None:
        try:
            rows = await self._cluster.accounted(list(asked), _LONG_AGO)
        except Exception as e:  # whatever it is, it is for those who asked
            for future in asked.values():
                future.set_exception(e)
                future.exception()  # somebody may have left
            return
        found = {(row.uid, row.attempt): row for row in rows}
        for name, future in asked.items():
            _, uid, attempt = name.rsplit(".", 2)
            future.set_result(found.get((uid, int(attempt))))
