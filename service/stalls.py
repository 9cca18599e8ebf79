"""Ends runs that say nothing for too long, their stacks written into the log first (`stall_minutes`)."""

import asyncio

import structlog

from backends.registry import Registry
from common.backend import DumpStacks, Handle
from common.clock import Clock, new_id
from common.errors import TrainyardError
from common.event import JobStalled
from common.job import Status
from service.live import LiveJob, LiveJobs
from service.orders import Orders
from service.store.base import Store

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 5.0
_LEAST_SECONDS = 0.05
_STACKS_SECONDS = 1.0


class Stalls:
    """Looks after live jobs whose document gives them a limit."""

    def __init__(self, store: Store, registry: Registry, live: LiveJobs, orders: Orders, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._live = live
        self._orders = orders
        self._clock = clock

    def begin(self, live: LiveJob) -> None:
        """Look after a run until it is over; one whose stall was told before a restart is ended at once."""
        if live.stall_seconds is not None:
            self._orders.spawn(self._look(live, live.stall_seconds))

    async def _look(self, live: LiveJob, limit: float) -> None:
        structlog.contextvars.bind_contextvars(job_id=live.job.job_id)
        handle: Handle | None = None
        while self._live.still(live):
            if live.handle is handle:  # stalled and asked to end: its backend may begin it again instead
                await asyncio.sleep(_LOOK_SECONDS)
                continue
            handle = live.handle
            await self._look_at(live, handle, limit)

    async def _look_at(self, live: LiveJob, handle: Handle, limit: float) -> None:
        """One run, until it is over, or is asked to end."""
        told = await self._store.stalled(live.job.uid, handle.attempt)
        while not told and self._present(live, handle):
            silent = self._clock.monotonic() - live.heard if live.job.status is Status.RUNNING else 0.0
            if silent < limit:
                await asyncio.sleep(max(min(limit - silent, _LOOK_SECONDS), _LEAST_SECONDS))
                continue
            if not (told := await self._told(live, handle, silent)):
                await asyncio.sleep(_LOOK_SECONDS)
        if self._present(live, handle):
            self._orders.end(live.job.uid)

    def _present(self, live: LiveJob, handle: Handle) -> bool:
        return self._live.still(live) and live.handle is handle

    async def _told(self, live: LiveJob, handle: Handle, silent: float) -> bool:
        """Tell the stall, so that the end is one, and have the stacks written; False where it can't be stored yet."""
        log.warning("the run is stalled and is ended", seconds=round(silent))
        step = (live.job.progress or {}).get("step")
        body = JobStalled(seconds=round(silent, 1), last_step=step if isinstance(step, int) else None)
        try:
            live.job = await self._store.append(live.job.uid, [body], attempt=handle.attempt, urgent=True)
        except TrainyardError as e:
            log.warning("the stall can't be told yet", error=e.message)
            return False
        try:
            if "dump_stacks" in self._registry.get(live.job.backend).capabilities:
                await self._orders.send(live.job.uid, DumpStacks(id=new_id()))
                await asyncio.sleep(_STACKS_SECONDS)
        except TrainyardError as e:
            log.warning("the stall could not be looked into", error=e.message)
        return True
