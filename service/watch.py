"""One task a live job: what the backend sees is appended and folded, and the end is told (DESIGN, 4)."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog
from attrs import define, evolve, field, fields

from backends.registry import Registry
from common.backend import (
    BackendEvent,
    BaseTrainerBackend,
    Change,
    Command,
    DumpStacks,
    Handle,
    JobSpec,
    RunAck,
    RunBegan,
    RunDetail,
    RunEnded,
)
from common.clock import Clock, new_id
from common.errors import BackendUnavailable, Conflict, IllegalMove, TrainyardError, Unavailable
from common.event import Body, JobRunning, JobStalled
from common.exits import Exit
from common.folder import JobFolder, Pair
from common.job import Job, Reason, Status, Wish
from common.settings import Settings
from service.answers import tell_answer
from service.masker import Masker
from service.metrics import Metrics
from service.mirror import Mirror
from service.outcome import outcome
from service.retries import once_more
from service.revisions import DEADLINE, Entry, entries, unanswered
from service.specs import read_spec
from service.store.base import Changes, JobRecord, Store

log = structlog.get_logger(__name__)

_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
_CANCEL_SECONDS = 30.0
_STALL_LOOK_SECONDS = 5.0
_STACKS_SECONDS = 1.0


@define
class _Watched:
    job: Job
    handle: Handle
    masker: Masker = field(factory=lambda: Masker(()))
    ask_first: bool = False
    task: "asyncio.Task[None] | None" = None
    max_retries: int = 0
    stall_seconds: float | None = None
    heard: float = 0.0
    """When the run last said something (monotonic)."""
    stalled: bool = False
    changing: asyncio.Lock = field(factory=asyncio.Lock)
    """Changes reach the run in the order in which they were stored."""
    passed_on: set[str] = field(factory=set)


class Watch:
    """The watchers of all live jobs. `freed` is called when a run is over and its resources are free."""

    def __init__(
        self, store: Store, registry: Registry, settings: Settings, clock: Clock, metrics: Metrics, mirror: Mirror
    ) -> None:
        self._store = store
        self._clock = clock
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
        spec = read_spec(record.spec)
        watched = self._live[record.job.uid] = _watched(record.job, handle, spec, self._clock.monotonic())
        if spec.log is not None:
            self._mirror.watch(record.job.uid, record.job.job_id, spec.log)
        watched.task = asyncio.create_task(self._watch(watched, backend, spec.engine, spec.folder))
        if watched.stall_seconds is not None:
            self._spawn(self._look_for_stall(watched))
        self.change(record.job.uid, unanswered(entries(record.changes)))

    async def send(self, uid: str, command: Command) -> None:
        """Pass a command to a live run. Raises `Conflict` when there is none, `Unavailable` when it isn't reached."""
        if (watched := self._live.get(uid)) is None:
            raise Conflict("the job's run is over")
        backend = self._registry.get(watched.job.backend)
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await backend.send(watched.handle, command)
        except (BackendUnavailable, TimeoutError) as e:
            raise Unavailable(f"backend {backend.name!r} can't pass a command on: {e or 'it does not answer'}") from e
        except Exception as e:  # a backend of somebody else's may raise anything
            log.exception("a command can't be passed on", job_id=watched.job.job_id)
            raise Unavailable(f"backend {backend.name!r} can't pass a command on: {type(e).__name__}: {e}") from e

    def change(self, uid: str, waiting: Sequence[Entry]) -> None:
        """Pass stored changes to the run, each once, in the order of the calls; returns at once."""
        if waiting and (watched := self._live.get(uid)) is not None:
            self._spawn(self._change(watched, waiting))

    async def _change(self, watched: _Watched, waiting: Sequence[Entry]) -> None:
        async with watched.changing:
            for entry in waiting:
                if entry["id"] in watched.passed_on:
                    continue
                values = {k: v for k, v in entry["values"].items() if not k.startswith("resources.")}
                if (minutes := entry["values"].get(DEADLINE)) is not None:
                    values["deadline_minutes"] = minutes
                await self._pass_on(watched, Change(id=entry["id"], values=values))
                watched.passed_on.add(entry["id"])

    async def _pass_on(self, watched: _Watched, command: Command) -> None:
        """Send until the backend takes it, or the run is over."""
        uid, wait = watched.job.uid, _FIRST_RETRY
        while self._live.get(uid) is watched:
            try:
                await self.send(uid, command)
                return
            except Conflict:
                return
            except Unavailable as e:
                log.warning("a change waits for the backend", job_id=watched.job.job_id, error=e.message)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LAST_RETRY)

    async def cancel(self, uid: str) -> None:
        """Pass a stored wish to cancel on to the run; a backend that fails is asked again until the run is over."""
        if (watched := self._live.get(uid)) is not None:
            await self._cancel(watched)

    async def _cancel(self, watched: _Watched) -> None:
        if not await self._cancelled(watched):
            self._spawn(self._cancel_later(watched))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._askers.add(task)
        task.add_done_callback(self._askers.discard)

    async def _cancelled(self, watched: _Watched) -> bool:
        """Whether the backend took the wish, or nothing is left to end; a later run of the job is another's matter."""
        if self._live.get(watched.job.uid) is not watched:
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

    async def _cancel_later(self, watched: _Watched) -> None:
        wait = _FIRST_RETRY
        while True:
            await asyncio.sleep(wait)
            if await self._cancelled(watched):
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
        if (await self._store.job_by_uid(uid)).wanted is not Wish.RUN:
            await self.cancel(uid)

    async def _look_for_stall(self, watched: _Watched) -> None:
        """End a run that says nothing for too long, its stacks written into the log first."""
        assert watched.stall_seconds is not None
        uid = watched.job.uid
        structlog.contextvars.bind_contextvars(job_id=watched.job.job_id)
        while self._live.get(uid) is watched:
            silent = self._clock.monotonic() - watched.heard if watched.job.status is Status.RUNNING else 0.0
            if silent < watched.stall_seconds:
                await asyncio.sleep(max(min(watched.stall_seconds - silent, _STALL_LOOK_SECONDS), 0.05))
                continue
            log.warning("the run is stalled and is ended", seconds=round(silent))
            step = (watched.job.progress or {}).get("step")
            body = JobStalled(seconds=round(silent, 1), last_step=step if isinstance(step, int) else None)
            try:
                watched.job = await self._store.append(uid, [body], attempt=watched.handle.attempt, urgent=True)
                watched.stalled = True
                if "dump_stacks" in self._registry.get(watched.job.backend).capabilities:
                    await self.send(uid, DumpStacks(id=new_id()))
                    await asyncio.sleep(_STACKS_SECONDS)
            except TrainyardError as e:
                log.warning("the stall could not be told or looked into", error=e.message)
            await self._cancel(watched)
            return

    async def _take(self, watched: _Watched, event: BackendEvent, engine: str, folder: bool) -> bool:
        """Store one thing that was seen; True when it was the end."""
        what = event.what
        watched.heard = self._clock.monotonic()
        match what:
            case RunDetail():
                await self._store.set_detail(watched.job.uid, what.text)
                return False
            case RunAck():
                log.info("command answered", command=what.command_id, ok=what.ok, text=what.text)
                answered = await tell_answer(self._store, watched.job.uid, watched.handle.attempt, what, event.cursor)
                watched.job = answered or watched.job
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
        if watched.stalled and ended.reason is None and ended.code != Exit.DONE:
            ended = evolve(ended, reason=Reason.STALLED)
        while not await self._told_end(watched, ended, engine):  # a wish or a change came meanwhile
            pass

    async def _told_end(self, watched: _Watched, ended: RunEnded, engine: str) -> bool:
        """Tell the end that follows from the job as it is now; False when it is that no more."""
        record = await self._store.job_by_uid(watched.job.uid)
        attempt, version = watched.handle.attempt, record.version
        body = masked(outcome(ended, record.wanted, engine), watched.masker)
        bodies, stored = await self._what_follows(watched, record, body)
        try:
            await self._store.append(
                watched.job.uid, bodies, attempt=attempt, changes=stored, if_version=version, urgent=True
            )
        except Conflict:
            return False
        except IllegalMove as e:
            self._metrics.dropped.labels(body.type).inc()
            log.warning("end dropped", error=e.message)
            return True
        log.info("job ended", type=body.type, message=body.message())
        return True

    async def _what_follows(self, watched: _Watched, record: JobRecord, end: Body) -> tuple[list[Body], Changes]:
        first = self._settings.retry_seconds
        again = await once_more(self._store, self._clock, record, end, watched.max_retries, first)
        if again is not None:
            return again
        if end.type == "job.paused":
            return [end], Changes(without_run=True)
        began = record.job.status is Status.RUNNING or end.type != "job.succeeded"
        return [end] if began else [JobRunning(), end], Changes()


def _watched(job: Job, handle: Handle, spec: JobSpec, now: float) -> _Watched:
    extra: Any = spec.request.get("extra_parameters") or {}
    minutes = extra.get("stall_minutes")
    stall = None if minutes is None else float(minutes) * 60
    return _Watched(job, handle, max_retries=extra.get("max_retries") or 0, stall_seconds=stall, heard=now)


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
        for pair in folder.restarts(attempt):
            (folder.attempt(pair) / "job_token").unlink(missing_ok=True)
