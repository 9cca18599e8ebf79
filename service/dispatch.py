"""Hands queued jobs to their backends: by priority, then age, in strict order within a lane (DESIGN, 3)."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress

import structlog
from attrs import define, field

from backends.registry import Registry
from common.backend import BaseTrainerBackend, JobSpec
from common.clock import Clock
from common.errors import BackendFull, BackendUnavailable, InvalidRequest, TrainyardError
from common.job import Phase, Reason, Wish
from common.settings import Settings
from service.asked import capacity_of
from service.handover import HandOver, granted, spec_for_run
from service.store.base import JobRecord, Store

log = structlog.get_logger(__name__)

_TICK_SECONDS = 1.0
_PAUSE_SECONDS = 0.02
_FIRST_RETRY = 1.0
_LAST_RETRY = 60.0
_ASK_SECONDS = 10.0
_ROUND_SECONDS = 0.25
#: Of the submissions that may be under way: with no more than so many, others are looked for at once.
_REFILL = 0.75


@define
class _Lane:
    """What is known of one backend's submissions."""

    in_flight: Counter[str] = field(factory=Counter)
    submissions: int = 0
    down_since: float | None = None
    retry_at: float = 0.0
    retry_after: float = _FIRST_RETRY
    refuses: bool = False
    """The last submission failed, whatever the backend's capacity says."""


class Dispatch:
    """Chooses and submits. `wake` is called whenever something may have become possible."""

    def __init__(self, store: Store, registry: Registry, handover: HandOver, settings: Settings, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._handover = handover
        self._settings = settings
        self._clock = clock
        self._wake = asyncio.Event()
        self._busy: set[str] = set()
        """Backends that are being asked, and jobs that are being withdrawn."""
        self._withdraw: set[str] = set()
        """Jobs that are to be cancelled or paused as soon as it is sure that nothing was handed over."""
        self._backends: dict[str, _Lane] = {}
        self._reasons: dict[str, str] = {}
        self._room = asyncio.Event()
        """Set where a submission ended since the last round, and many may begin."""

    def begin(self, to_withdraw: set[str]) -> None:
        """Told once at start: whose cancelling or pausing is unfinished."""
        self._withdraw |= to_withdraw

    def wake(self) -> None:
        self._wake.set()

    def why_waiting(self, lane: str) -> str | None:
        """Why the jobs of a lane wait, as far as it is known."""
        return self._reasons.get(lane)

    async def run(self) -> None:
        """Dispatch until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._wake.clear()
                self._room.clear()
                try:
                    await self._round(group)
                except (TrainyardError, OSError) as e:
                    log.warning("dispatch failed and is tried again", error=str(e))
                with suppress(TimeoutError):  # what is accepted or has made room meanwhile is looked at together
                    async with asyncio.timeout(_PAUSE_SECONDS):
                        await self._room.wait()
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
            except Exception:  # what a backend answered may be anything inside; the others' jobs go on
                log.exception("dispatch failed and is tried again", of=name)
            finally:
                self._busy.discard(name)

        self._busy.add(name)
        return group.create_task(go())

    async def _dispatch_backend(self, group: asyncio.TaskGroup, name: str, lanes: list[str]) -> None:
        known = self._backends.setdefault(name, _Lane())
        if known.submissions >= self._settings.submit_concurrency:
            return
        for lane in lanes:
            if known.retry_at <= self._clock.monotonic():
                await self._dispatch_lane(group, lane, name, known)

    async def _dispatch_lane(self, group: asyncio.TaskGroup, lane: str, name: str, known: _Lane) -> None:
        try:
            backend = self._registry.get(name)
            async with asyncio.timeout(_ASK_SECONDS):
                await self._registry.started(name)
                capacity = await capacity_of(backend)
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
        most = 1 if blocked else room  # of a blocked lane only the head is of interest
        with self._handover.noting_settled() as settled:
            waiting = await self._store.waiting(lane, self._clock.now(), most, self._handover.taken)
        for record in waiting:
            if record.job.uid in self._handover.taken or record.job.uid in settled:
                continue
            spec = spec_for_run(record)
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

    def _take(
        self, group: asyncio.TaskGroup, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend, known: _Lane
    ) -> None:
        self._handover.take(record.job.uid)
        known.submissions += 1
        known.in_flight.update(spec.needs)
        group.create_task(self._submit(record, spec, backend, known))

    async def _submit(self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend, known: _Lane) -> None:
        structlog.contextvars.bind_contextvars(job_id=record.job.job_id)
        try:
            refusal = await self._refusal(record, spec, backend)
            known.refuses = refusal is not None
            if isinstance(refusal, BackendFull):
                known.down_since = None
                self._hold(record.lane, known, refusal.message)
            elif refusal is not None:
                await self._down(record.lane, known, refusal.message)
        except Exception as e:  # even the failure can't be told, with a full disk for one
            log.warning("submission failed and is tried again", error=f"{type(e).__name__}: {e}")
            known.refuses = True
            self._wait(known)
        finally:
            known.submissions -= 1
            known.in_flight.subtract(spec.needs)
            if known.submissions <= self._settings.submit_concurrency * _REFILL:
                self._room.set()
            self.wake()

    async def _refusal(
        self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend
    ) -> BackendUnavailable | None:
        """Hand a taken job over; why its backend can't take it now, or None."""
        try:
            await self._handover.submit(record, spec, backend)
        except BackendUnavailable as e:
            return e
        finally:
            self._handover.settle(record.job.uid)
        return None

    def withdraw_later(self, uid: str) -> None:
        """A stored wish met a submission, or a backend that is away: it is granted if no run comes of that."""
        self._withdraw.add(uid)
        self.wake()

    async def _finish_withdrawal(self, uid: str) -> None:
        record = await self._store.job_by_uid(uid)
        paused = record.job.phase is Phase.PAUSED
        if record.job.ended or record.handle is not None or paused or record.wanted is Wish.RUN:
            self._withdraw.discard(uid)
        elif await self._handover.withdraw(record):
            try:
                await self._handover.close_attempt(record.job)
                told = await granted(self._store, record, record.wanted)
                await self._store.append(uid, [told], if_version=record.version, urgent=True)
                self._withdraw.discard(uid)
            finally:
                self._handover.settle(uid)

    async def _down(self, lane: str, known: _Lane, reason: str) -> None:
        """The backend can't take jobs: wait longer each time; after the set time its jobs fail."""
        now = self._clock.monotonic()
        known.down_since = now if known.down_since is None else known.down_since
        self._hold(lane, known, reason)
        if now - known.down_since >= self._settings.backend_down_seconds:
            await self._fail_all(lane, reason)

    def _hold(self, lane: str, known: _Lane, reason: str) -> None:
        """Say why a lane waits, and let some time pass."""
        self._wait(known)
        if self._reasons.get(lane) != reason:
            log.warning("jobs wait for their backend", lane=lane, reason=reason)
        self._reasons[lane] = reason

    def _wait(self, known: _Lane) -> None:
        """Let some time pass before the next try, longer each time; what fails together is one failure."""
        now = self._clock.monotonic()
        if now >= known.retry_at:
            known.retry_at = now + known.retry_after
            known.retry_after = min(known.retry_after * 2, _LAST_RETRY)

    async def _fail_all(self, lane: str, reason: str) -> None:
        """Fail what waits, but for what is being handed over after all at this moment."""
        with self._handover.noting_settled() as settled:
            waiting = await self._store.waiting(lane, self._clock.now(), self._settings.submit_concurrency)
        for uid in (record.job.uid for record in waiting):
            if uid in self._handover.taken or uid in settled:
                continue
            self._handover.take(uid)
            try:
                await self._handover.fail(uid, Reason.BACKEND_UNAVAILABLE, reason)
            finally:
                self._handover.settle(uid)


def _lacking(spec: JobSpec, free: Counter[str], in_flight: Counter[str]) -> str | None:
    """Why a job can't start with what is free; None takes it off `free`."""
    for name, count in spec.needs.items():
        have = free[name] - in_flight[name]
        if count > have:
            place = "GPU" if name == "gpu" else name.removeprefix("gpu:") if ":" in name else name.upper() + " job slot"
            return f"waits for {count} {place}{'s' if count > 1 else ''}, {max(have, 0)} free"
    return None
