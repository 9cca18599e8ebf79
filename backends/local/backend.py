"""The local backend: runs on the machine of the service, each under a guard that outlives the service."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from backends.engines.limits import find_errors
from backends.engines.methods import computes_in_bf16
from backends.engines.own_trainer import NOT_ALLOWED
from backends.engines.spec import build
from backends.local import client
from backends.local.follow import Follower
from backends.local.machine import this_machine
from backends.runs.commands import record_of, tell
from backends.runs.events import Told
from backends.runs.run import read_record
from common.backend import (
    BackendContext,
    BackendEvent,
    BaseTrainerBackend,
    Capacity,
    Command,
    Cursor,
    DumpStacks,
    Handle,
    JobSpec,
    RunBegan,
)
from common.errors import BackendUnavailable
from common.folder import JobFolder, Pair, spec_document
from common.job import Job
from schemas.train import TrainRequest
from schemas.values import FieldError


class LocalBackend(BaseTrainerBackend):
    """Trains here: on GPUs that are never given to two jobs, or on the CPU, a set number of jobs at once."""

    name: ClassVar[str] = "local"
    on_this_machine: ClassVar[bool] = True
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"logs", "checkpoint_now", "pause", "resume", "change", "dump_stacks"}
    )

    def __init__(self, context: BackendContext) -> None:
        super().__init__(context)
        self.machine = this_machine(context.devices.devices)
        self._held: dict[str, tuple[str, ...]] = {}
        """The devices of each run; none: it holds a CPU slot."""
        self._adopted: dict[str, tuple[JobFolder, int]] = {}
        """Runs of a service before this one that nobody watches yet."""
        self._children: set[int] = set()

    async def start(self) -> None:
        """Take up what living runs hold, so that none of it is given away before the service knows them again."""
        for folder, attempt in await asyncio.to_thread(self._living):
            spec = await asyncio.to_thread(read_record, folder.spec)
            if spec is not None and spec.get("backend") == self.name:  # others keep their folders there, too
                key = _key(str(spec.get("uid")), attempt)
                self._take_up(key, _devices(spec.get("devices")))
                self._adopted[key] = (folder, attempt)

    def validate_request(self, request: TrainRequest) -> list[FieldError]:
        errors = find_errors(request, self.machine)
        if request.extra_parameters.engine == "command" and self.context.settings.allow_command is False:
            errors.append(FieldError("extra_parameters.command", NOT_ALLOWED))
        return errors

    def build_job_spec(self, request: TrainRequest) -> JobSpec:
        return build(request, self.machine, self.context.settings)

    async def submit(self, job: Job, attempt: int, spec: JobSpec) -> Handle:
        if (found := await self.find(job, attempt)) is not None:
            self._hold(found)
            return found
        devices = self._take(_key(job.uid, attempt), spec)
        try:
            pid = await asyncio.to_thread(self._start, job, attempt, spec, devices)
        except OSError as e:
            self._give_back(_key(job.uid, attempt))
            raise BackendUnavailable(f"the run can't be started: {e}") from e
        self._children.add(pid)
        return _handle(job, attempt, devices)

    async def find(self, job: Job, attempt: int) -> Handle | None:
        folder = self._folder(job.job_id)
        if not await asyncio.to_thread(_was_started, folder, attempt):
            return None
        spec = await asyncio.to_thread(read_record, folder.spec)
        if spec is None:
            raise BackendUnavailable(f"attempt {attempt} was started, but {folder.spec} can't be read")
        return _handle(job, attempt, _devices(spec.get("devices")))

    def watch(self, handle: Handle, cursor: Cursor | None) -> AsyncIterator[BackendEvent]:
        self._hold(handle)
        return self._follow(handle, cursor)

    async def cancel(self, handle: Handle, grace: float) -> None:
        await asyncio.to_thread(client.stop, self._folder(handle.job_id), handle.uid, handle.attempt)

    async def send(self, handle: Handle, command: Command) -> None:
        folder = self._folder(handle.job_id)
        if isinstance(command, DumpStacks):
            await asyncio.to_thread(client.dump_stacks, folder, handle.uid, handle.attempt)
        elif (record := record_of(command)) is not None:
            await asyncio.to_thread(tell, folder, handle, record)
        else:
            await super().send(handle, command)

    async def capacity(self) -> Capacity:
        self._reap()
        await self._forget_ended()
        pool, slots = self.context.devices, self.context.settings.local_cpu_jobs
        free, kinds = set(pool.free()), self.machine.kinds
        return Capacity(
            total={"gpu": len(pool.devices), "cpu": slots} | {name: len(own) for name, own in kinds.items()},
            free={"gpu": len(free), "cpu": max(slots - self._cpu_jobs(), 0)}
            | {name: len(own & free) for name, own in kinds.items()},
            devices=pool.listing(),
        )

    async def _follow(self, handle: Handle, cursor: Cursor | None) -> AsyncIterator[BackendEvent]:
        context = self.context
        follower = Follower(self._folder(handle.job_id), handle, cursor, context.settings, context.clock)
        while (run := await asyncio.to_thread(follower.claimed)) is None and follower.lost is None:
            await self._pause()
        if run is not None:
            if cursor is None:
                yield BackendEvent(what=RunBegan(), cursor=Cursor(file=run.source))
            async for event in self._lines(follower, Told(run.source)):
                yield event
        ended = await asyncio.to_thread(follower.end)
        self._give_back(_key(handle.uid, handle.attempt))
        yield BackendEvent(what=ended)

    async def _lines(self, follower: Follower, told: Told) -> AsyncIterator[BackendEvent]:
        while not (seen := await asyncio.to_thread(follower.look)).over:
            for line in seen.lines:
                if (event := told.event(line)) is not None:
                    yield event
            if not seen.more:
                await self._pause()
        if (rest := told.rest()) is not None:
            yield rest

    async def _pause(self) -> None:
        self._reap()
        await asyncio.sleep(self.context.settings.poll_seconds)

    def _start(self, job: Job, attempt: int, spec: JobSpec, devices: tuple[str, ...]) -> int:
        folder, settings = self._folder(job.job_id), self.context.settings
        folder.make({**spec_document(job, spec, devices), "backend": self.name}, attempt, None)
        argv = spec.argv if spec.engine == "command" else (*spec.argv, str(folder.path))
        return client.start_guard(folder.path, attempt, argv, settings.grace_seconds, settings.max_train_log_bytes)

    def _take(self, run: str, spec: JobSpec) -> tuple[str, ...]:
        """Devices or a CPU slot, the same again for a run that has them. Raises `BackendUnavailable`."""
        if run in self._held:
            return self._held[run]
        pool, count = self.context.devices, spec.needs.get("gpu", 0)
        if not count:
            limit = self.context.settings.local_cpu_jobs
            if self._cpu_jobs() >= limit:
                raise BackendUnavailable(f"waits for a CPU slot: {limit} at once (TRAINYARD_LOCAL_CPU_JOBS)")
            self._held[run] = ()
            return ()
        fitting = self._fitting(spec)
        free = tuple(index for index in pool.free() if index in fitting)
        if len(free) < count:
            plural = "s" if count > 1 else ""
            raise BackendUnavailable(f"waits for {count} GPU{plural}: {len(free)} of {len(fitting)} are free")
        self._held[run] = free[:count]
        pool.hold(run, free[:count])
        return self._held[run]

    def _fitting(self, spec: JobSpec) -> set[str]:
        """The devices that can do a job; what a program of the caller's own computes in is not known."""
        request: Mapping[str, Any] = spec.request
        custom = request.get("customization") or {}
        compute_type = (custom.get("qlora") or {}).get("bnb_4bit_compute_dtype")
        bf16 = computes_in_bf16(str(custom.get("method")), str(custom.get("precision")), compute_type)
        bf16 = bf16 and spec.engine != "command"
        return set(self.machine.fitting((request.get("resources") or {}).get("gpu_type"), bf16=bf16))

    def _hold(self, handle: Handle) -> None:
        key = _key(handle.uid, handle.attempt)
        self._adopted.pop(key, None)
        self._take_up(key, _devices(handle.data.get("devices")))

    def _take_up(self, run: str, devices: tuple[str, ...]) -> None:
        self._held[run] = devices
        if devices:
            self.context.devices.hold(run, devices)

    def _living(self) -> list[tuple[JobFolder, int]]:
        found = [(JobFolder(folder), attempt) for folder, attempt in client.guards()]
        return [(folder, attempt) for folder, attempt in found if folder == self._folder(folder.path.name)]

    async def _forget_ended(self) -> None:
        """Free what runs hold that ended without ever being asked for."""
        for key, (folder, attempt) in list(self._adopted.items()):
            over = not await asyncio.to_thread(client.on_its_way, folder.path, attempt)
            if over and key in self._adopted:
                del self._adopted[key]
                self._give_back(key)

    def _give_back(self, run: str) -> None:
        self._held.pop(run, None)
        self.context.devices.give_back(run)

    def _cpu_jobs(self) -> int:
        return sum(not devices for devices in self._held.values())

    def _reap(self) -> None:
        self._children = {pid for pid in self._children if not client.reap(pid)}

    def _folder(self, job_id: str) -> JobFolder:
        return JobFolder(self.job_folder(job_id).absolute())


def _key(uid: str, attempt: int) -> str:
    return f"{uid}.{attempt}"


def _devices(stored: object) -> tuple[str, ...]:
    return tuple(map(str, stored)) if isinstance(stored, list | tuple) else ()


def _handle(job: Job, attempt: int, devices: tuple[str, ...]) -> Handle:
    return Handle(
        uid=job.uid,
        job_id=job.job_id,
        attempt=attempt,
        backend_job_id=f"{job.uid}.{Pair(attempt)}",
        data={"devices": list(devices)},
    )


def _was_started(folder: JobFolder, attempt: int) -> bool:
    if folder.restarts(attempt) or client.on_its_way(folder.path, attempt):
        return True
    return bool(folder.restarts(attempt))  # claimed and ended between the two looks
