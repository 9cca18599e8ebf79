"""One task a live job: what the backend sees is appended and folded, and the end is told (DESIGN, 4)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing

import structlog
from attrs import evolve

from backends.registry import Registry
from common.backend import (
    BackendEvent,
    BaseTrainerBackend,
    Handle,
    RunAck,
    RunBegan,
    RunDetail,
    RunEnded,
    RunRestarted,
)
from common.clock import Clock
from common.errors import BackendUnavailable, IllegalMove, TrainyardError
from common.event import Body, JobRunning
from common.job import Job, Status, Wish
from common.settings import Settings
from service.answers import tell_answer
from service.batches import batches
from service.ends import Ends, masked
from service.folders import Folders
from service.live import LiveJob, LiveJobs
from service.masker import Masker
from service.metrics import Metrics
from service.mirror import Mirror
from service.orders import Orders
from service.requeues import begun_again, exhausted
from service.revisions import entries, unanswered
from service.specs import read_spec
from service.stalls import Stalls
from service.store.base import JobRecord, Store
from service.wished import append_said

log = structlog.get_logger(__name__)

_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
_MOST_AT_ONCE = 200
_UNWATCHED = "its run can't be watched"


class Watch:
    """The watchers of all live jobs. `freed` is called when a run is over and its resources are free.

    `orders` is the way to their runs.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        folders: Folders,
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
        mirror: Mirror,
    ) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._folders = folders
        self._metrics = metrics
        self._mirror = mirror
        self._live = LiveJobs()
        self.orders = Orders(store, registry, self._live, settings.grace_seconds)
        self._stalls = Stalls(store, registry, self._live, self.orders, clock)
        self._ends = Ends(store, folders, settings, clock, metrics)
        self.freed: Callable[[], None] = lambda: None

    async def close(self) -> None:
        """Stop watching; runs go on."""
        await self.orders.close()
        tasks = [live.task for live in self._live.all() if live.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, record: JobRecord, handle: Handle) -> None:
        """Watch a job; a job that is watched already stays so. Takes up what the handle holds, at once."""
        if self._live.get(record.job.uid) is not None:
            return
        backend, spec = self._registry.get(record.job.backend), read_spec(record.spec)
        live = LiveJob.of(record.job, handle, spec, self._clock.monotonic())
        live.unwatched = (record.detail or "").startswith(_UNWATCHED)  # said by the service before
        self._live.add(live)
        try:
            backend.watch(handle, None)  # the call itself takes up devices; the task asks again, from the stored cursor
        except Exception:  # a backend of somebody else's may raise anything; its job must still be watched
            log.exception("what a run holds can't be taken up", job_id=record.job.job_id)
        if spec.log is not None:
            self._mirror.watch(record.job.uid, record.job.job_id, spec.log)
        live.task = asyncio.create_task(self._watch(live, backend))
        self._stalls.begin(live)
        self.orders.change(record.job.uid, unanswered(entries(record.changes)))

    def ask_first(self, uid: str) -> None:
        """Let the watcher itself see what is wanted of the run: after a restart, when no request waits for it."""
        if (live := self._live.get(uid)) is not None:
            live.ask_first = True

    def count(self) -> int:
        return len(self._live.all())

    def live(self) -> list[Job]:
        return [live.job for live in self._live.all()]

    async def _watch(self, live: LiveJob, backend: BaseTrainerBackend) -> None:
        uid = live.job.uid
        structlog.contextvars.bind_contextvars(job_id=live.job.job_id)
        wait = _FIRST_RETRY
        while True:
            trouble = "its watch ended without an end"
            try:
                if live.ask_first:
                    await self._ask_again(live)
                live.masker = Masker((await self._store.secrets(uid)).values())
                cursor = await self._store.cursor(uid, live.handle.attempt)
                followed = live.handle
                async with aclosing(batches(backend.watch(followed, cursor), _MOST_AT_ONCE)) as seen:
                    async for events in seen:
                        if live.unwatched:
                            await self._explain(live, None)
                        if await self._take(live, events):
                            self._over(live)
                            return
                        wait = _FIRST_RETRY
                if live.handle is not followed:  # it was begun again: the next attempt is followed at once
                    continue
                log.warning("watching ended without an end and is tried again", seconds=wait)
            except (BackendUnavailable, TrainyardError) as e:
                trouble = e.message
                log.warning("watching failed and is tried again", error=e.message, seconds=wait)
            except Exception as e:  # as in `begin`
                trouble = f"{type(e).__name__}; the service's log has it in full"
                log.exception("watching failed and is tried again", seconds=wait)
            if wait > _FIRST_RETRY:  # once may be nothing
                await self._explain(live, f"{_UNWATCHED}, and is tried again: {trouble}")
            await asyncio.sleep(wait)
            wait, live.ask_first = min(wait * 2, _LAST_RETRY), True

    async def _explain(self, live: LiveJob, why: str | None) -> None:
        """Say in the job's detail why nothing is heard of its run; None: it is heard again."""
        live.unwatched = why is not None
        try:
            await self._store.set_detail(live.job.uid, why)
        except TrainyardError as e:
            log.warning("the trouble of a run can't be stored", error=e.message)

    def _over(self, live: LiveJob) -> None:
        self._live.remove(live)
        self._mirror.finish(live.job.uid)
        self.freed()

    async def _ask_again(self, live: LiveJob) -> None:
        """Pass on what may have been missed; a run that was begun again once too often is ended as well."""
        uid, live.exhausted = live.job.uid, await exhausted(self._store, live)
        record = await self._store.job_by_uid(uid)
        self.orders.change(uid, unanswered(entries(record.changes)))
        if live.exhausted is not None or record.wanted is not Wish.RUN:
            self.orders.end(uid)

    async def _take(self, live: LiveJob, events: Sequence[BackendEvent]) -> bool:
        """Store what was seen, in its order; True when the last of it was the end."""
        live.heard = self._clock.monotonic()
        said: list[BackendEvent] = []
        for event in events:
            if not isinstance(event.what, RunDetail | RunAck | RunRestarted | RunEnded):
                said.append(event)
                continue
            await self._append(live, said)
            said = []
            match event.what:
                case RunDetail():
                    await self._store.set_detail(live.job.uid, event.what.text)
                case RunAck():
                    await self._take_answer(live, event.what, event)
                case RunRestarted():
                    await begun_again(self._store, self._folders, live, event.what)
                    live.ask_first = True
                case RunEnded():
                    await self._ends.tell(live, event.what)
                    return True
        await self._append(live, said)
        return False

    async def _take_answer(self, live: LiveJob, ack: RunAck, event: BackendEvent) -> None:
        log.info("command answered", command=ack.command_id, ok=ack.ok, text=ack.text)
        answered = await tell_answer(self._store, live.job.uid, live.handle.attempt, ack, event.cursor)
        live.job = answered or live.job

    async def _append(self, live: LiveJob, events: Sequence[BackendEvent]) -> None:
        """Append in one transaction what came together; where the table lacks a move, one by one."""
        if not events:
            return
        bodies = [body for event in events for body in _bodies(event, live)]
        if live.job.status is Status.QUEUED:
            bodies = [JobRunning(), *bodies]
        cursor = next((event.cursor for event in reversed(events) if event.cursor is not None), None)
        uid, attempt = live.job.uid, live.handle.attempt
        try:
            live.job = await append_said(self._store, uid, bodies, attempt, cursor)
        except IllegalMove as e:
            if len(events) > 1:
                for event in events:
                    await self._append(live, [event])
                return
            for body in bodies:
                self._metrics.dropped.labels(body.type).inc()
            log.warning("event dropped", error=e.message)
            await self._store.append(uid, [], attempt=attempt, cursor=cursor)
            live.job = (await self._store.job_by_uid(uid)).job


def _bodies(event: BackendEvent, live: LiveJob) -> list[Body]:
    """What an event says of the job, without its secrets; that a run began is said by `job.running`."""
    assert not isinstance(event.what, RunDetail | RunAck | RunRestarted | RunEnded)
    if isinstance(event.what, RunBegan):
        return []
    at = {} if event.at is None else {"at": event.at}
    return [masked(evolve(event.what, extra={**event.what.extra, **at}), live.masker)]
