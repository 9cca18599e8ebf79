"""Hands queued jobs to their backends: by priority, then age, in strict order within a lane (DESIGN, 3)."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from attrs import define, evolve, field

from backends.registry import Registry
from common.backend import BaseTrainerBackend, Handle, JobSpec, RunEnded
from common.clock import Clock
from common.errors import BackendUnavailable, IllegalMove, InvalidRequest, NotFound, TrainyardError
from common.event import JobCancelled, JobFailed, JobPaused, JobPhase, JobSubmitted
from common.folder import JobFolder, spec_document
from common.job import Job, Phase, Reason, Status, Wish
from common.settings import Settings
from service.job_tokens import TOKEN, base_url, reporting
from service.revisions import deadline_of, entries, for_run, unanswered
from service.specs import read_spec
from service.store.base import REPLACED, Changes, JobRecord, Store
from service.watch import Watch, close_attempt

log = structlog.get_logger(__name__)

_TICK_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_FIRST_RETRY = 1.0
_LAST_RETRY = 60.0
_SUBMIT_SECONDS = 120.0
_ASK_SECONDS = 10.0
_ROUND_SECONDS = 0.25


@define
class _Lane:
    """What is known of one backend's submissions."""

    in_flight: Counter[str] = field(factory=Counter)
    submissions: int = 0
    down_since: float | None = None
    retry_at: float = 0.0
    retry_after: float = _FIRST_RETRY
    refuses: bool = False
    """The last submission found the backend away, whatever its capacity says."""


class Dispatch:
    """Chooses and submits. `wake` is called whenever something may have become possible."""

    def __init__(self, store: Store, registry: Registry, watch: Watch, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._watch = watch
        self._settings = settings
        self._clock = clock
        self._wake = asyncio.Event()
        self._taken: set[str] = set()
        """Jobs that are being submitted or withdrawn at this moment."""
        self._asking: dict[int, set[str]] = {}
        """For each question to the store who waits: the jobs that were settled since it was asked."""
        self._busy: set[str] = set()
        """Backends that are being asked, and jobs that are being withdrawn."""
        self._unsure: set[str] = set()
        """Jobs of which a submission may have gone through without leaving a handle."""
        self._withdraw: set[str] = set()
        """Jobs that are to be cancelled or paused as soon as it is sure that nothing was handed over."""
        self._last_of_before = 0
        self._backends: dict[str, _Lane] = {}
        self._reasons: dict[str, str] = {}
        self._group: asyncio.TaskGroup | None = None
        self._started = False
        """Whether the present round has handed over a job."""

    def begin(self, last_of_before: int, to_withdraw: set[str]) -> None:
        """Told once at start: the newest job of the process before, and whose cancelling is unfinished."""
        self._last_of_before = last_of_before
        self._withdraw |= to_withdraw

    def wake(self) -> None:
        self._wake.set()

    def why_waiting(self, lane: str) -> str | None:
        """Why the jobs of a lane wait, as far as it is known."""
        return self._reasons.get(lane)

    async def run(self) -> None:
        """Dispatch until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                self._wake.clear()
                self._started = False
                try:
                    await self._round(group)
                except (TrainyardError, OSError) as e:
                    log.warning("dispatch failed and is tried again", error=str(e))
                if not self._started:  # nothing could start: what is accepted meanwhile is looked at together
                    await asyncio.sleep(_PAUSE_SECONDS)
                try:
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _round(self, group: asyncio.TaskGroup) -> None:
        """Look at everything once. Backends are asked side by side: one that hangs holds up its own jobs alone."""
        tasks = [self._alone(group, uid, self._finish_withdrawal(uid)) for uid in self._withdraw - self._busy]
        lanes = await self._store.lanes()
        self._reasons = {lane: reason for lane, reason in self._reasons.items() if lane in lanes}
        of_backend: dict[str, list[str]] = {}
        for lane in lanes:
            of_backend.setdefault(lane.partition("/")[0], []).append(lane)
        for name, its in of_backend.items():
            if name not in self._busy:
                tasks.append(self._alone(group, name, self._dispatch_backend(group, name, its)))
        if tasks:
            await asyncio.wait(tasks, timeout=_ROUND_SECONDS)

    def _alone(self, group: asyncio.TaskGroup, name: str, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        """Work that nobody begins again while it goes on; what fails in it is tried again in a later round."""

        async def go() -> None:
            try:
                await work
            except (TrainyardError, OSError) as e:
                log.warning("dispatch failed and is tried again", of=name, error=str(e))
            finally:
                self._busy.discard(name)

        self._busy.add(name)
        return group.create_task(go())

    async def _dispatch_backend(self, group: asyncio.TaskGroup, name: str, lanes: list[str]) -> None:
        known = self._backends.setdefault(name, _Lane())
        for lane in lanes:
            if known.retry_at <= self._clock.monotonic():
                await self._dispatch_lane(group, lane, name, known)

    async def _dispatch_lane(self, group: asyncio.TaskGroup, lane: str, name: str, known: _Lane) -> None:
        try:
            backend = self._registry.get(name)
            async with asyncio.timeout(_ASK_SECONDS):
                capacity = await backend.capacity()
        except (InvalidRequest, BackendUnavailable, TimeoutError) as e:
            await self._down(lane, known, str(e) or "the backend does not answer")
            return
        except Exception as e:  # a backend may raise anything; its jobs wait, and the others go on
            log.exception("a backend's capacity can't be asked", backend=name)
            await self._down(lane, known, f"{type(e).__name__}: {e}")
            return
        if capacity.reason is not None:
            await self._down(lane, known, capacity.reason)
            return
        if not known.refuses:
            known.down_since, known.retry_after = None, _FIRST_RETRY
        room = self._settings.submit_concurrency - known.submissions
        if room <= 0:
            return
        free = None if capacity.free is None else Counter(capacity.free)
        blocked = lane in self._reasons
        most = len(self._taken) + (1 if blocked else room)  # of a blocked lane only the head is of interest
        with self._noting_released() as released:
            waiting = await self._store.waiting(lane, self._clock.now(), most)
        for record in waiting:
            if record.job.uid in self._taken or record.job.uid in released:
                continue
            spec = _spec_for_run(record)
            if free is not None:
                lacking = _lacking(spec, free, known.in_flight)
                if lacking is not None:
                    self._reasons[lane] = lacking
                    return
            self._take(group, record, spec, backend, known)
            if known.submissions >= self._settings.submit_concurrency:
                return
        self._reasons.pop(lane, None)
        if blocked:  # its head is gone: the others are looked at in the next round
            self.wake()

    @contextmanager
    def _noting_released(self) -> Iterator[set[str]]:
        """Jobs that are settled while the store is asked who waits: its answer may be older than their handles."""
        released: set[str] = set()
        self._asking[id(released)] = released
        try:
            yield released
        finally:
            del self._asking[id(released)]

    def _take(
        self, group: asyncio.TaskGroup, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend, known: _Lane
    ) -> None:
        self._taken.add(record.job.uid)
        self._started = True
        known.submissions += 1
        known.in_flight.update(spec.needs)
        group.create_task(self._submit(record, spec, backend, known))

    async def _submit(self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend, known: _Lane) -> None:
        job = record.job
        structlog.contextvars.bind_contextvars(job_id=job.job_id)
        try:
            await self._submit_once(record, spec, backend, known)
        except Exception as e:  # even the failure can't be told, with a full disk for one: nobody else is held up by it
            self._unsure.add(job.uid)
            log.warning("submission failed and is tried again", error=f"{type(e).__name__}: {e}")
        finally:
            self.settle(job.uid)
            known.submissions -= 1
            known.in_flight.subtract(spec.needs)
            self.wake()

    async def _submit_once(self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend, known: _Lane) -> None:
        uid = record.job.uid
        try:
            handle = await self._hand_over(record, spec, backend)
            await self._handed_over(record, backend, handle)
            known.refuses = False
        except BackendUnavailable as e:
            self._unsure.add(uid)
            known.refuses = True
            await self._down(record.lane, known, e.message)
        except TimeoutError:
            self._unsure.add(uid)
            known.refuses = True
            await self._down(record.lane, known, f"submitting took more than {_SUBMIT_SECONDS:.0f} s")
        except TrainyardError:
            raise
        except Exception as e:  # a backend may raise anything: then this job fails, and no other
            log.exception("submission failed")
            await self._fail(uid, Reason.REJECTED, f"{type(e).__name__}: {e}")

    async def _hand_over(self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend) -> Handle:
        job = record.job
        async with asyncio.timeout(_SUBMIT_SECONDS):
            found = await backend.find(job, job.attempt) if self._doubtful(record) else None
            if found is not None:
                return found
            if spec.folder:
                folder = JobFolder(self._settings.jobs_dir / job.job_id)
                secrets = secrets_for_run(await self._store.secrets(job.uid))
                if spec.engine == "command":
                    secrets |= await reporting(self._store, job, base_url(self._settings, backend))
                await asyncio.to_thread(folder.make, spec_document(job, spec), job.attempt, secrets)
            return await backend.submit(job, job.attempt, spec)

    async def _handed_over(self, record: JobRecord, backend: BaseTrainerBackend, handle: Handle) -> None:
        """Store the handle, begin to watch, and pass on a wish that came meanwhile."""
        uid = record.job.uid
        body = JobSubmitted(backend=record.job.backend, backend_job_id=handle.backend_job_id)
        stored = Changes(handle=handle)
        try:
            job = await self._store.append(uid, [body], attempt=handle.attempt, changes=stored, urgent=True)
        except (IllegalMove, NotFound) as e:
            log.warning("the job ended while it was handed over; its run is ended", error=e.message)
            await self.close_attempt(record.job)
            await _discard(backend, handle)
            return
        self._unsure.discard(uid)
        self._watch.begin(evolve(record, job=job), handle)  # before the wish is read: a later one finds the watcher
        present = await self._store.job_by_uid(uid)
        self._watch.change(uid, unanswered(entries(present.changes)))
        if (wanted := present.wanted) is not Wish.RUN:
            with suppress(IllegalMove):  # it has ended already
                phase = Phase.STOPPING if wanted is Wish.CANCEL else Phase.PAUSING
                await self._store.append(uid, [JobPhase(phase=phase)])
            await self._watch.cancel(uid)

    def _doubtful(self, record: JobRecord) -> bool:
        return record.seq <= self._last_of_before or record.job.uid in self._unsure

    async def withdraw(self, record: JobRecord) -> bool:
        """Keep a queued job from being handed over: True when nothing was and, until `settle`, nothing will be."""
        uid = record.job.uid
        if uid in self._taken:
            return False
        self._taken.add(uid)
        held = False
        try:
            held = not self._doubtful(record) or await self._never_handed_over(record)
        finally:
            if not held:
                self.settle(uid)
        return held

    async def _never_handed_over(self, record: JobRecord) -> bool:
        """Ask the backend; a submission that went through after all is watched from now on."""
        try:
            backend = self._registry.get(record.job.backend)
            async with asyncio.timeout(_ASK_SECONDS):
                handle = await backend.find(record.job, record.job.attempt)
        except (BackendUnavailable, InvalidRequest, TimeoutError):
            return False
        except Exception:  # a backend may raise anything; it is asked again
            log.exception("a backend can't be asked for a run", job_id=record.job.job_id)
            return False
        if handle is not None:
            await self._handed_over(record, backend, handle)
        return handle is None

    def withdraw_later(self, uid: str) -> None:
        """A stored wish met a submission, or a backend that is away: it is granted if no run comes of that."""
        self._withdraw.add(uid)
        self.wake()

    def settle(self, uid: str) -> None:
        """The withdrawal of a job is over, one way or the other."""
        self._taken.discard(uid)
        for released in self._asking.values():
            released.add(uid)

    async def close_attempt(self, job: Job) -> None:
        """Leave nothing of an attempt that was prepared and never handed over."""
        folder = JobFolder(self._settings.jobs_dir / job.job_id)
        await asyncio.to_thread(close_attempt, folder, job.attempt)

    async def _finish_withdrawal(self, uid: str) -> None:
        record = await self._store.job_by_uid(uid)
        paused = record.job.phase is Phase.PAUSED
        if record.job.ended or record.handle is not None or paused or record.wanted is Wish.RUN:
            self._withdraw.discard(uid)
        elif await self.withdraw(record):
            try:
                await self.close_attempt(record.job)
                told = JobPaused() if record.wanted is Wish.PAUSE else JobCancelled()
                await self._store.append(uid, [told], if_version=record.version, urgent=True)
                self._withdraw.discard(uid)
            finally:
                self.settle(uid)

    async def _down(self, lane: str, known: _Lane, reason: str) -> None:
        """The backend can't take jobs: wait longer each time; after the set time its jobs fail."""
        now = self._clock.monotonic()
        known.down_since = now if known.down_since is None else known.down_since
        if now >= known.retry_at:  # submissions that fail together are one failure
            known.retry_at = now + known.retry_after
            known.retry_after = min(known.retry_after * 2, _LAST_RETRY)
        if self._reasons.get(lane) != reason:
            log.warning("jobs wait for their backend", lane=lane, reason=reason)
        self._reasons[lane] = reason
        if now - known.down_since >= self._settings.backend_down_seconds:
            for record in await self._store.waiting(lane, self._clock.now(), self._settings.submit_concurrency):
                await self._fail(record.job.uid, Reason.BACKEND_UNAVAILABLE, reason)

    async def _fail(self, uid: str, reason: Reason, explanation: str) -> None:
        record = await self._store.job_by_uid(uid)
        if record.job.status is Status.QUEUED:
            await self.close_attempt(record.job)
            await self._store.append(uid, [JobFailed(reason=reason, explanation=explanation)], urgent=True)


async def _discard(backend: BaseTrainerBackend, handle: Handle) -> None:
    """End a run that nobody wants any more, and wait until what it holds is free."""
    events = backend.watch(handle, None)
    await backend.cancel(handle, 0)
    async for event in events:
        if isinstance(event.what, RunEnded):
            return


def _spec_for_run(record: JobRecord) -> JobSpec:
    """The spec with what was changed since it was built."""
    spec, changes = read_spec(record.spec), entries(record.changes)
    return evolve(spec, changes=tuple(for_run(changes)), deadline_minutes=deadline_of(changes, spec.deadline_minutes))


def _lacking(spec: JobSpec, free: Counter[str], in_flight: Counter[str]) -> str | None:
    """Why a job can't start with what is free; None takes it off `free`."""
    for name, count in spec.needs.items():
        have = free[name] - in_flight[name]
        if count > have:
            place = "GPU" if name == "gpu" else name.removeprefix("gpu:") if ":" in name else name.upper() + " job slot"
            return f"waits for {count} {place}{'s' if count > 1 else ''}, {max(have, 0)} free"
    return None


def secrets_for_run(secrets: Mapping[str, str]) -> dict[str, Any]:
    """What a run is handed of a job's secrets (contract trainer.md, 6)."""
    prefix = "extra_parameters.env."
    secrets = {path: value for path, value in secrets.items() if not path.startswith(REPLACED)}
    return {
        "values": {path: value for path, value in secrets.items() if not path.startswith((prefix, TOKEN))},
        "env": {path.removeprefix(prefix): value for path, value in secrets.items() if path.startswith(prefix)},
        "job_token": None,
    }
