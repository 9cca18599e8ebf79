"""The simulated backend: a plan computed from the start time, played back as events."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar

from attrs import asdict

from backends.simulated.spec import LOG_LINE_BYTES, Options, Plan, log_text
from common.backend import (
    BackendEvent,
    BaseTrainerBackend,
    Capacity,
    Cursor,
    Handle,
    JobSpec,
    RunEnded,
)
from common.errors import BackendUnavailable
from common.event import JobProgress
from common.folder import JobFolder
from common.job import Job, Reason
from schemas.converter import structure, unstructure
from schemas.train import TrainRequest, resolve
from schemas.values import FieldError, FieldWarning

_LONGEST_SLEEP = 60.0


class SimulatedBackend(BaseTrainerBackend):
    """Plays jobs; takes every valid document, of any scheme, and reads and writes no URI of it."""

    name: ClassVar[str] = "simulated"
    simulated: ClassVar[bool] = True
    capabilities: ClassVar[frozenset[str]] = frozenset({"logs", "pause", "resume"})
    Options: ClassVar[type] = Options

    async def start(self) -> None:
        self._stops: dict[str, asyncio.Event] = {}

    def validate_request(self, request: TrainRequest) -> list[FieldError]:
        options = structure(dict(request.extra_parameters.options), Options, prefix="extra_parameters")
        if options.value is None:
            return list(options.errors)
        return list(_refusals(request, options.value, len(self.context.devices.devices)))

    def build_job_spec(self, request: TrainRequest) -> JobSpec:
        options = _options(request)
        warnings: tuple[FieldWarning, ...] = ()
        gpus = request.resources.gpus if options.devices else 0
        have = len(self.context.devices.devices)
        if gpus > have:
            gpus = have
            warnings = (FieldWarning("resources.gpus", f"lowered from the default to the {have} that are here"),)
        return JobSpec(
            engine="simulated",
            request=unstructure(resolve(request)),
            options=asdict(options),
            lane="gpu" if gpus else "free",
            needs={"gpu": gpus} if gpus else {},
            folder=options.log_lines_per_step > 0,
            deadline_minutes=request.resources.max_duration_minutes,
            warnings=warnings,
        )

    async def submit(self, job: Job, attempt: int, spec: JobSpec) -> Handle:
        devices = self.context.devices.take(_run(job.uid, attempt), spec.needs.get("gpu", 0))
        if devices is None:
            raise BackendUnavailable(f"waits for {spec.needs['gpu']} free devices")
        return Handle(
            uid=job.uid,
            job_id=job.job_id,
            attempt=attempt,
            backend_job_id=f"sim-{job.uid}-{attempt}",
            data={
                "start": self.context.clock.now(),
                "options": dict(spec.options),
                "deadline_minutes": spec.deadline_minutes,
                "devices": list(devices),
            },
        )

    async def find(self, job: Job, attempt: int) -> Handle | None:
        self.context.devices.give_back(_run(job.uid, attempt))
        return None  # a submission that left no handle was never played

    def watch(self, handle: Handle, cursor: Cursor | None) -> AsyncIterator[BackendEvent]:
        run = _run(handle.uid, handle.attempt)
        devices = handle.data.get("devices")
        self.context.devices.hold(run, devices if isinstance(devices, list) else ())
        self._stops.setdefault(run, asyncio.Event())
        return self._play(handle, cursor.n if cursor else 0)

    async def _play(self, handle: Handle, seen: int) -> AsyncIterator[BackendEvent]:
        run = _run(handle.uid, handle.attempt)
        plan = Plan.of(handle)
        stop = self._stops.setdefault(run, asyncio.Event())
        for at, event in plan.items(seen):
            if not await self._until(min(at, plan.deadline), stop) or at > plan.deadline:
                break
            if isinstance(event.what, RunEnded):
                self._release(run)
            elif isinstance(event.what, JobProgress):
                await self._write_log(handle, plan, event.what.step)
            yield event
            if isinstance(event.what, RunEnded):
                return
        else:
            await self._until(plan.deadline, stop)
        self._release(run)
        yield BackendEvent(what=self._cut_short(plan, stop))

    def _cut_short(self, plan: Plan, stop: asyncio.Event) -> RunEnded:
        steps = plan.steps_at(self.context.clock.now())
        return RunEnded(code=75, step=steps, reason=None if stop.is_set() else Reason.TIME_LIMIT)

    async def _until(self, at: float, stop: asyncio.Event) -> bool:
        """Sleep until a time; False when the run is stopped before."""
        while (left := at - self.context.clock.now()) > 0 and not stop.is_set():
            try:
                async with asyncio.timeout(min(left, _LONGEST_SLEEP)):
                    await stop.wait()
            except TimeoutError:
                pass
        return not stop.is_set()

    async def _write_log(self, handle: Handle, plan: Plan, step: int) -> None:
        if lines := plan.options.log_lines_per_step:
            offset, text = log_text(handle.attempt, step, lines)
            path = JobFolder(self.job_folder(handle.job_id)).log
            await asyncio.to_thread(_write_at, path, offset + _before(plan, handle.attempt), text)

    def _release(self, run: str) -> None:
        self.context.devices.give_back(run)
        self._stops.pop(run, None)

    async def cancel(self, handle: Handle, grace: float) -> None:
        run = _run(handle.uid, handle.attempt)
        if run in self._stops:
            self._stops[run].set()

    async def capacity(self) -> Capacity:
        pool = self.context.devices
        return Capacity(total={"gpu": len(pool.devices)}, free={"gpu": len(pool.free())}, devices=pool.listing())


def _refusals(request: TrainRequest, options: Options, have: int) -> Iterator[FieldError]:
    if request.resources.max_cost is not None:
        yield FieldError("resources.max_cost", "needs a price list, and this installation has none; leave it out")
    gpus = request.resources.gpus
    if options.devices and "resources.gpus" in request.asked and gpus > have:
        message = f"asks for {gpus} devices, this machine has {have}; {have} or fewer would run"
        yield FieldError("resources.gpus", message)


def _options(request: TrainRequest) -> Options:
    found = structure(dict(request.extra_parameters.options), Options, prefix="extra_parameters").value
    assert found is not None
    return found


def _run(uid: str, attempt: int) -> str:
    return f"{uid}.{attempt}"


def _before(plan: Plan, attempt: int) -> int:
    return (attempt - 1) * plan.options.steps * plan.options.log_lines_per_step * LOG_LINE_BYTES


def _write_at(path: Path, offset: int, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, text, offset)
    finally:
        os.close(descriptor)
