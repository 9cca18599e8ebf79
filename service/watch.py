"""One task a live job: what the backend sees is appended and folded, and the end is told (DESIGN, 4)."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from attrs import define, evolve, field, fields

from backends.registry import Registry
from common.backend import BackendEvent, BaseTrainerBackend, Handle, RunAck, RunBegan, RunDetail, RunEnded
from common.errors import BackendUnavailable, IllegalMove, TrainyardError
from common.event import Body, JobRunning
from common.folder import JobFolder, Pair
from common.job import Job, Status, Wish
from common.settings import Settings
from service.masker import Masker
from service.metrics import Metrics
from service.mirror import Mirror
from service.outcome import outcome
from service.specs import read_spec
from service.store.base import Changes, JobRecord, Store

log = structlog.get_logger(__name__)

_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
_CANCEL_SECONDS = 30.0


@define
class _Watched:
    job: Job
    handle: Handle
    masker: Masker = field(factory=lambda: Masker(()))
    ask_first: bool = False
    task: "asyncio.Task[None] | None" = None


class Watch:
    """The watchers of all live jobs. `freed` is called when a run is over and its resources are free."""

    def __init__(self, store: Store, registry: Registry, settings: Settings, metrics: Metrics, mirror: Mirror) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._metrics = metrics
        self._mirror = mirror
        self._live: dict[str, _Watched] = {}
        self._askers: set[asyncio.Task[None]] = set()
        self.freed: Callable[[], None] = lambda: None

    async def close(self) -> None:
        """Stop watching; runs go on."""
        tasks = [*self._askers, *(watched.task for watched in self._live.values() if watched.task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, record: JobRecord, handle: Handle) -> None:
        """Watch a job; a job that is watched already stays so. Takes up what the handle holds, at once."""
        if record.job.uid in self._live:
            return
        backend = self._registry.get(record.job.backend)
        backend.watch(handle, None)  # the call itself takes up devices; the task asks again, from the stored cursor
        watched = self._live[record.job.uid] = _Watched(record.job, handle)
        spec = read_spec(record.spec)
        if spec.log is not None:
            self._mirror.watch(record.job.uid, record.job.job_id, Path(spec.log))
        watched.task = asyncio.create_task(self._watch(watched, backend, spec.engine, spec.folder))

    async def cancel(self, uid: str) -> None:
        """Pass a stored wish to cancel on to the run; a backend that fails is asked again until the run is over."""
        if not await self._cancelled(uid):
            task = asyncio.create_task(self._cancel_later(uid))
            self._askers.add(task)
            task.add_done_callback(self._askers.discard)

    async def _cancelled(self, uid: str) -> bool:
        """Whether the backend took the wish, or nothing is left to end."""
        if (watched := self._live.get(uid)) is None:
            return True
        backend = self._registry.get(watched.job.backend)
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await backend.cancel(watched.handle, self._settings.grace_seconds)
        except (BackendUnavailable, TimeoutError) as e:
            log.warning("cancel waits for the backend", job_id=watched.job.job_id, error=str(e))
            return False
        except Exception:  # a backend of somebody else's may raise anything; the wish still holds
            log.exception("cancel failed and is tried again", job_id=watched.job.job_id)
            return False
        return True

    async def _cancel_later(self, uid: str) -> None:
        wait = _FIRST_RETRY
        while True:
            await asyncio.sleep(wait)
            if await self._cancelled(uid):
                return
            wait = min(wait * 2, _LAST_RETRY)

    def cancel_soon(self, uid: str) -> None:
        """Let the watcher itself pass the wish on: after a restart, when no request waits for it."""
        if (watched := self._live.get(uid)) is not None:
            watched.ask_first = True

    def count(self) -> int:
        return len(self._live)

    def live(self) -> list[Job]:
        return [watched.job for watched in self._live.values()]

    async def _watch(self, watched: _Watched, backend: BaseTrainerBackend, engine: str, folder: bool) -> None:
        uid = watched.job.uid
        structlog.contextvars.bind_contextvars(job_id=watched.job.job_id)
        wait = _FIRST_RETRY
        while True:
            try:
                if watched.ask_first:
                    await self._ask_again(uid)
                watched.masker = Masker((await self._store.secrets(uid)).values())
                cursor = await self._store.cursor(uid, watched.handle.attempt)
                async for event in backend.watch(watched.handle, cursor):
                    wait = _FIRST_RETRY
                    if await self._take(watched, event, engine, folder):
                        del self._live[uid]
                        self._mirror.finish(uid)
                        self.freed()
                        return
            except (BackendUnavailable, TrainyardError) as e:
                log.warning("watching failed and is tried again", error=e.message, seconds=wait)
            except Exception:  # a backend of somebody else's may raise anything; its job must still be watched
                log.exception("watching failed and is tried again", seconds=wait)
            await asyncio.sleep(wait)
            wait, watched.ask_first = min(wait * 2, _LAST_RETRY), True

    async def _ask_again(self, uid: str) -> None:
        """Pass on a wish that may have been missed."""
        if (await self._store.job_by_uid(uid)).wanted is Wish.CANCEL:
            await self.cancel(uid)

    async def _take(self, watched: _Watched, event: BackendEvent, engine: str, folder: bool) -> bool:
        """Store one thing that was seen; True when it was the end."""
        what = event.what
        match what:
            case RunDetail():
                await self._store.set_detail(watched.job.uid, what.text)
                return False
            case RunAck():
                log.info("command answered", command=what.command_id, ok=what.ok, text=what.text)
                return False
            case RunEnded():
                await self._end(watched, what, engine, folder)
                return True
            case RunBegan():
                bodies: list[Body] = []
            case _:
                at = {} if event.at is None else {"at": event.at}
                bodies = [masked(evolve(what, extra={**what.extra, **at}), watched.masker)]
        await self._append(watched, bodies, event)
        return False

    async def _append(self, watched: _Watched, bodies: list[Body], event: BackendEvent) -> None:
        if watched.job.status is Status.QUEUED:
            bodies = [JobRunning(), *bodies]
        try:
            watched.job = await self._store.append(
                watched.job.uid, bodies, attempt=watched.handle.attempt, cursor=event.cursor
            )
        except IllegalMove as e:
            for body in bodies:
                self._metrics.dropped.labels(body.type).inc()
            log.warning("event dropped", error=e.message)
            await self._store.append(watched.job.uid, [], attempt=watched.handle.attempt, cursor=event.cursor)
            watched.job = (await self._store.job_by_uid(watched.job.uid)).job

    async def _end(self, watched: _Watched, ended: RunEnded, engine: str, folder: bool) -> None:
        """Shut the run out of its folder, take its secrets away, then tell the end."""
        attempt = watched.handle.attempt
        if folder:
            path = self._settings.jobs_dir / watched.job.job_id
            await asyncio.to_thread(close_attempt, JobFolder(path), attempt)
        record = await self._store.job_by_uid(watched.job.uid)
        body = masked(outcome(ended, record.wanted, engine), watched.masker)
        bodies = [body] if record.job.status is Status.RUNNING or body.type != "job.succeeded" else [JobRunning(), body]
        try:
            await self._store.append(watched.job.uid, bodies, attempt=attempt, changes=Changes(), urgent=True)
        except IllegalMove as e:
            self._metrics.dropped.labels(body.type).inc()
            log.warning("end dropped", error=e.message)
            return
        log.info("job ended", type=body.type, message=body.message())


def masked(body: Body, masker: Masker) -> Body:
    """What a run said, without the job's secrets."""
    if masker.pattern is None:
        return body
    texts: dict[str, Any] = {a.name: masker.value(getattr(body, a.name)) for a in fields(type(body))}
    return evolve(body, **texts)


def close_attempt(folder: JobFolder, attempt: int) -> None:
    """After an attempt: nothing of it may write any more, and its secrets are gone."""
    if folder.path.is_dir():
        folder.raise_fence(Pair(attempt + 1))
        folder.secrets(attempt).unlink(missing_ok=True)
