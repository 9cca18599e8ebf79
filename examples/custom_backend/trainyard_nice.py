"""A backend of one's own for Trainyard: programs on the service's machine, at a low priority, as many as come."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Annotated

from attrs import frozen

import trainyard.backend as ty


@frozen(kw_only=True)
class Options:
    """The keys of `extra_parameters` that this backend adds."""

    niceness: Annotated[int, ty.Range(ge=0, le=19)] = 10


class NiceBackend(ty.BaseTrainerBackend):
    """Runs each program under `nice`, and that under a guard; whatever must be remembered is in the job folders."""

    interface_version = 1
    name = "nice"
    on_this_machine = True
    capabilities = frozenset({"logs", "checkpoint_now", "pause", "resume", "change"})
    Options = Options

    def __init__(self, context: ty.BackendContext) -> None:
        super().__init__(context)
        self._guards: set[int] = set()

    def validate_request(self, request: ty.TrainRequest) -> list[ty.FieldError]:
        errors = []
        if request.extra_parameters.command is None:
            errors.append(ty.FieldError("extra_parameters.command", "is missing: nice runs programs, and nothing else"))
        if request.resources.gpus:
            errors.append(ty.FieldError("resources.gpus", f"must be 0 here, got {request.resources.gpus}"))
        return errors

    def build_job_spec(self, request: ty.TrainRequest) -> ty.JobSpec:
        niceness = request.extra_parameters.options.get("niceness", Options().niceness)
        return ty.JobSpec(
            engine="command",
            argv=("nice", "-n", str(niceness), *(request.extra_parameters.command or ())),
            request=ty.resolved(request),
            output=ty.with_job(request.artifacts.output_uri, request.job_id),
            log=ty.with_job(request.artifacts.log_uri, request.job_id),
            threads=request.resources.cpus,
            deadline_minutes=request.resources.max_duration_minutes,
        )

    async def submit(self, job: ty.Job, attempt: int, spec: ty.JobSpec) -> ty.Handle:
        if (found := await self.find(job, attempt)) is not None:
            return found
        if (capacity := await self.capacity()).reason is not None:
            raise ty.BackendUnavailable(capacity.reason)
        folder, settings = self._folder(job.job_id).path, self.context.settings
        limits = (settings.grace_seconds, settings.max_train_log_bytes)
        self._guards.add(await asyncio.to_thread(ty.start_guard, folder, attempt, spec.argv, *limits))
        return _handle(job, attempt)

    async def find(self, job: ty.Job, attempt: int) -> ty.Handle | None:
        handle = _handle(job, attempt)
        return handle if await asyncio.to_thread(self._lives, handle) or self._run(handle) else None

    async def watch(self, handle: ty.Handle, cursor: ty.Cursor | None) -> AsyncIterator[ty.BackendEvent]:
        folder = self._folder(handle.job_id)
        while (run := self._run(handle)) is None:
            if not await asyncio.to_thread(self._lives, handle) and self._run(handle) is None:
                await asyncio.to_thread(folder.raise_fence, ty.Pair(handle.attempt + 1))
                yield ty.BackendEvent(what=ty.RunEnded(reason=ty.Reason.LOST, explanation="it never began"))
                return
            await self._pause()
        if cursor is None:
            yield ty.BackendEvent(what=ty.RunBegan(), cursor=ty.Cursor(file=run.source))
        reader, told = ty.Reader.of(run, cursor), ty.Told(run.source)
        while True:
            over = run.ended() or not await asyncio.to_thread(self._lives, handle)
            seen = await asyncio.to_thread(reader.read, over=over)
            for event in filter(None, map(told.event, seen.lines)):
                yield event
            if seen.over:
                break
            if not seen.more:
                await self._pause()
        if not run.ended():  # its guard was killed, and may have left the program behind
            await asyncio.to_thread(ty.end_run, run, 0)
        yield ty.BackendEvent(what=ty.end_of(run, "its guard is gone and left no outcome"))

    async def cancel(self, handle: ty.Handle, grace: float) -> None:
        await asyncio.to_thread(ty.stop_run, self._folder(handle.job_id), handle.uid, handle.attempt)

    async def send(self, handle: ty.Handle, command: ty.Command) -> None:
        if (record := ty.record_of(command)) is None:
            await super().send(handle, command)
        else:
            await asyncio.to_thread(ty.tell, self._folder(handle.job_id), handle, record)

    async def capacity(self) -> ty.Capacity:
        return ty.Capacity(reason=None if shutil.which("nice") else "there is no program nice on the service's PATH")

    def _folder(self, job_id: str) -> ty.JobFolder:
        return ty.JobFolder(self.job_folder(job_id).absolute())

    def _run(self, handle: ty.Handle) -> ty.Run | None:
        return ty.claimed(self._folder(handle.job_id), handle.uid, handle.attempt)

    def _lives(self, handle: ty.Handle) -> bool:
        self._guards = {pid for pid in self._guards if not ty.reap(pid)}
        return ty.guard_lives(self._folder(handle.job_id).path, handle.attempt)

    async def _pause(self) -> None:
        await asyncio.sleep(self.context.settings.poll_seconds)


def _handle(job: ty.Job, attempt: int) -> ty.Handle:
    return ty.Handle(uid=job.uid, job_id=job.job_id, attempt=attempt, backend_job_id=f"{job.uid}.{attempt}")
