"""The Slurm backend: runs are batch jobs of a cluster that shares the job folders with the service."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

import structlog
from attrs import evolve

from backends.engines.machine import missing_packages
from backends.runs.commands import record_of
from backends.runs.events import Told
from backends.runs.run import Run, claimed, read_record
from backends.slurm import stopping
from backends.slurm.accounting import Accounting
from backends.slurm.client import CommandLine, NotReached, SbatchRefused, Transport
from backends.slurm.cluster import Cluster
from backends.slurm.follow import Follower, Sight, owner_of, pair_of
from backends.slurm.limits import find_errors, spare_minutes
from backends.slurm.options import SlurmOptions
from backends.slurm.query import Look, Poll
from backends.slurm.script import script, time_minutes
from backends.slurm.spec import OPTIONS, build
from backends.slurm.states import Stage, stage
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
    RunDetail,
    RunRestarted,
)
from common.errors import BackendUnavailable
from common.folder import JobFolder, Pair, spec_document
from common.hands import Hands
from common.job import Job, Reason
from schemas.train import TrainRequest
from schemas.values import FieldError

log = structlog.get_logger(__name__)

_KNOWN_SECONDS = 30.0
_FIRST_SECONDS = 1.0
_SILENT = "Slurm has not answered yet"
_FILES_SECONDS = 1.0
_SLACK_SECONDS = 10.0
_HANDS, _AT_ONCE = 4, 16
_NOT_HERE = (
    "slurm can't be used from this machine: {} not installed (apt install slurm-client, or the site's own Slurm)"
)


class SlurmBackend(BaseTrainerBackend):
    """Hands every job to Slurm at once and lets it queue; the job folders lie where all nodes see them."""

    name: ClassVar[str] = "slurm"
    capabilities: ClassVar[frozenset[str]] = frozenset(
        {"logs", "checkpoint_now", "pause", "resume", "change", "dump_stacks", "multi_node"}
    )
    Options: ClassVar[type] = SlurmOptions

    def __init__(self, context: BackendContext, transport: Transport | None = None) -> None:
        super().__init__(context)
        settings = context.settings
        self.transport = transport or CommandLine(settings.slurm_call_seconds, settings.slurm_calls)
        self.poll = Poll(self.transport, context.clock, settings.slurm_poll_seconds)
        self._accounting = Accounting(self.transport)
        lacking, absent = missing_packages()
        self.cluster = Cluster(lacking=lacking, absent=absent)
        self._hands = Hands("slurm-files", _HANDS, _AT_ONCE)
        self._away: str | None = None
        self._doubt = asyncio.Event()
        """Set while it is not sure that the cluster answers: then it is asked more often."""
        self._unreached: set[tuple[str, int]] = set()
        """Attempts of which no submission ever reached Slurm, since it was sure that none had been made before."""
        self._knowing: asyncio.Task[None] | None = None
        self._answered = asyncio.Event()
        """Set once it was asked what the cluster has, whatever came of it."""

    async def start(self) -> None:
        """Begin to learn what the cluster has; one that does not answer soon is not waited for."""
        if (absent := self.transport.missing()) is not None:
            raise BackendUnavailable(_NOT_HERE.format(absent))
        if self._knowing is None:
            self._knowing = asyncio.create_task(self._keep_known())
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._answered.wait()
        except TimeoutError:
            self._away = self._away or _SILENT

    async def close(self) -> None:
        if self._knowing is not None:
            self._knowing.cancel()
            await asyncio.gather(self._knowing, return_exceptions=True)
        await self.poll.close()
        await self._accounting.close()
        self.transport.close()
        self._hands.close()

    def validate_request(self, request: TrainRequest) -> list[FieldError]:
        errors = find_errors(request, self.cluster, self.context.settings)
        if (absent := self.transport.missing()) is not None:
            errors.append(FieldError("backend", f"{_NOT_HERE.format(absent)}; local would run"))
        return errors

    def build_job_spec(self, request: TrainRequest) -> JobSpec:
        return build(request, self.cluster, self.context.settings)

    def can_read(self, uri: str) -> bool:
        """Its nodes share the service's file system."""
        return True

    async def submit(self, job: Job, attempt: int, spec: JobSpec) -> Handle:
        folder = self._folder(job.job_id)
        if await self._hands.do(folder.restarts, attempt):
            return await self._hands.do(self._handle, job, attempt, None)
        ours: Mapping[str, Any] = spec.options[OPTIONS]  # type: ignore[assignment]
        if ours["gpus"]:  # which ones, Slurm says to the run
            await self._hands.do(folder.make, spec_document(job, spec, None), attempt, None)
        key = (job.uid, attempt)
        try:
            number = await self.transport.submit(script(job, attempt, spec, folder.path, self.context.settings))
        except NotReached as e:
            self._unreached.add(key)
            self._away = e.message
            self._doubt.set()
            raise
        except BackendUnavailable:
            self._unreached.discard(key)
            raise
        except SbatchRefused as e:
            self._unreached.discard(key)
            raise SbatchRefused(f"{e}; {self._hint(ours.get('partition'))}") from e
        self._unreached.discard(key)
        return self._handle(job, attempt, number, spec)

    async def find(self, job: Job, attempt: int) -> Handle | None:
        if await self._hands.do(self._folder(job.job_id).restarts, attempt):
            return await self._hands.do(self._handle, job, attempt, None)
        if (job.uid, attempt) in self._unreached:
            return None
        look = await self.poll.fresh()
        if look.rows is None:
            raise BackendUnavailable(look.away)
        row = look.of(job.uid, attempt, None) or await self._accounting.row(job.job_id, job.uid, attempt)
        return None if row is None else self._handle(job, attempt, row.id)

    def watch(self, handle: Handle, cursor: Cursor | None) -> AsyncIterator[BackendEvent]:
        return self._follow(handle, cursor)

    async def cancel(self, handle: Handle, grace: float) -> None:
        folder, pair = self._folder(handle.job_id), pair_of(handle)
        follower = self._follower(handle, None)
        claimed = await self._hands.do(_claimed_or_shut_out, folder, handle.uid, pair)
        jobs = await self._hands.do(follower.slurm_ids, self.poll.newest)
        if not await self._hands.do(folder.path.is_dir):
            await self.transport.cancel(jobs, follower.name)
        elif not claimed or grace <= 0:
            await self._hands.do(stopping.note_cancelled, folder, pair)
            await self.transport.cancel(jobs, follower.name)
        elif await self._hands.do(stopping.asked, folder, pair) is None:
            await self._ask_to_leave(follower, jobs)
        else:
            await self._hands.do(stopping.ask_by_line, folder, pair)

    async def send(self, handle: Handle, command: Command) -> None:
        folder = self._folder(handle.job_id)
        if isinstance(command, DumpStacks):
            follower = self._follower(handle, None)
            ids = await self._hands.do(follower.slurm_ids, self.poll.newest)
            await self._hands.do(stopping.ask_for_stacks, follower.run)
            await self.transport.signal(ids, follower.name, "USR2")
        elif (record := record_of(command)) is not None:
            await self._hands.do(_tell, folder, handle, record)
        else:
            await super().send(handle, command)

    def refuses_change(self, handle: Handle, values: Mapping[str, object]) -> str | None:
        minutes, limit = values.get("resources.max_duration_minutes"), handle.data.get("time_minutes")
        if not isinstance(minutes, int | float) or not isinstance(limit, int):
            return None
        most = limit - spare_minutes(self.context.settings)
        if ceil(minutes) <= most:
            return None
        return (
            f"resources.max_duration_minutes: {minutes:g} is beyond the time limit of its Slurm job, which only an "
            f"administrator may raise; up to {most:g} would do, or pause and resume it with the new value"
        )

    async def capacity(self) -> Capacity:
        seen = self.cluster.nodes
        once = {(str(kind), kind.count): kind for kind in seen}.values()  # a node may be in several partitions
        total = {
            "nodes": sum(kind.count for kind in once),
            "cpu": sum(kind.count * kind.cpus for kind in once),
            "gpu": sum(kind.count * sum(kind.gpus.values()) for kind in once),
        }
        return Capacity(total=total, reason=self._away or self.poll.away())

    async def _follow(self, handle: Handle, cursor: Cursor | None) -> AsyncIterator[BackendEvent]:
        follower = self._follower(handle, cursor)
        told, began, row = Told(follower.run.source), cursor is not None, None
        with self.poll.used():
            if cursor is None:  # it has just been handed over, or nothing was read of it: Slurm's word comes first
                await self.poll.news(self.poll.newest.number)
            while True:
                look = self.poll.newest
                sight = await self._hands.do(follower.look, look)
                if sight.detail is not None:
                    yield BackendEvent(what=RunDetail(text=sight.detail))
                if sight.claimed and not began:
                    began = True
                    yield BackendEvent(what=RunBegan(), cursor=Cursor(file=follower.run.source))
                for line in sight.lines:
                    if (event := told.event(line)) is not None:
                        yield event
                if sight.restarted:
                    yield BackendEvent(what=await self._hands.do(self._begun_again, handle, follower))
                    return
                if sight.over or (sight.forgotten and await self._is_lost(follower)):
                    break
                if not sight.more:
                    await self._pause(follower, look, sight)
                    await self._keep_grace(follower, look)
            row = follower.row if not sight.forgotten else follower.remembered
            ended = await self._hands.do(follower.end, row)
        if (rest := told.rest()) is not None:
            yield rest
        yield BackendEvent(what=ended)

    async def _pause(self, follower: Follower, look: Look, sight: Sight) -> None:
        """Until the next look; a run that has begun says more meanwhile, one that only waits as before says nothing."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_FILES_SECONDS, self.poll.seconds) if sight.claimed else None):
                look = await self.poll.news(look.number)
                while not sight.claimed and follower.waits_as_before(look):
                    look = await self.poll.news(look.number)

    async def _is_lost(self, follower: Follower) -> bool:
        """Whether accounting does not know a living job either; it is remembered if it knows how it ended."""
        handle, pair = follower.handle, follower.pair
        owner = await self._hands.do(owner_of, follower.run)
        row = await self._accounting.row(handle.job_id, handle.uid, pair.attempt, owner)
        if row is not None and stage(row.state) is not Stage.OVER:
            if not await self._hands.do(follower.outlived):
                return False
            row = None
        follower.remembered = row
        return True

    async def _ask_to_leave(self, follower: Follower, jobs: list[int]) -> None:
        """SIGTERM, once, whatever becomes of the call: a second one would mean "without a checkpoint"."""
        folder, pair = follower.folder, follower.pair
        with suppress(OSError):  # a full disk keeps no run from leaving
            await self._hands.do(stopping.note_asked, folder, pair)
        try:
            await self.transport.signal(jobs, follower.name, "TERM")
        except NotReached:
            await self._hands.do(stopping.forget_asked, folder, pair)
            raise
        with suppress(OSError):
            await self._hands.do(stopping.note_arrived, folder, pair)

    async def _keep_grace(self, follower: Follower, look: Look) -> None:
        """A run that was asked to leave and is still there long after its guard's grace is ended by Slurm."""
        if self.poll.newest.number == look.number:
            return
        folder, pair = follower.folder, follower.pair
        waited = await self._hands.do(stopping.asked, folder, pair)
        late = waited is not None and waited > self.context.settings.grace_seconds + _SLACK_SECONDS
        if not late or await self._hands.do(stopping.was_cancelled, folder, pair):
            return
        jobs = await self._hands.do(follower.slurm_ids, self.poll.newest)
        log.warning("the run did not leave within its grace; Slurm ends it", job_id=follower.handle.job_id, slurm=jobs)
        try:
            await self.transport.cancel(jobs, follower.name)
            await self._hands.do(stopping.note_cancelled, folder, pair)
        except BackendUnavailable as e:
            log.warning("scancel waits for Slurm", job_id=follower.handle.job_id, error=e.message)

    def _begun_again(self, handle: Handle, follower: Follower) -> RunRestarted:
        """Slurm put the run back into its queue: the one before is shut out, and the next one is followed."""
        ended, pair = follower.run, Pair(follower.pair.attempt, follower.pair.restart + 1)
        with suppress(OSError):  # the new run does it itself, right after its claim
            follower.folder.raise_fence(pair)
        data = {**handle.data, "submitted": pair.attempt, "restart": pair.restart}
        reason = Reason.PREEMPTED if ended.ended() else Reason.NODE_FAILURE
        return RunRestarted(reason=reason, handle=evolve(handle, attempt=handle.attempt + 1, data=data))

    async def _keep_known(self) -> None:
        while True:
            await self._learn()
            self._answered.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_KNOWN_SECONDS):
                    await self._doubt.wait()
            if self._doubt.is_set():
                await asyncio.sleep(self.poll.seconds)

    async def _learn(self) -> None:
        try:
            self.cluster = evolve(self.cluster, nodes=await self.transport.nodes())
            self._away = None
            self._doubt.clear()
        except BackendUnavailable as e:
            if self._away in (None, _SILENT):
                log.warning("the cluster can't be asked", error=e.message)
            self._away = e.message
            self._doubt.set()
        except Exception as e:  # what the cluster has is asked again, whatever went wrong with this answer
            log.exception("what the cluster has can't be read")
            self._away = f"what the cluster has can't be read: {type(e).__name__}: {e}"
            self._doubt.set()

    def _hint(self, partition: str | None) -> str:
        kinds = self.cluster.kinds(self.cluster.partition(partition))
        has = f"partition {kinds[0].partition!r} has {'; '.join(map(str, kinds))}; " if kinds else ""
        return f"{has}partitions: {', '.join(self.cluster.partitions()) or 'none are known'}"

    def _handle(self, job: Job, attempt: int, number: int | None, spec: JobSpec | None = None) -> Handle:
        """`number` None: of the job that claimed the attempt."""
        folder = self._folder(job.job_id)
        if number is None:
            claims = folder.restarts(attempt)
            number = owner_of(Run(folder, job.uid, claims[0])) if claims else None
        document = read_record(folder.spec) if spec is None else {"deadline_minutes": spec.deadline_minutes}
        limit = time_minutes((document or {}).get("deadline_minutes"), self.context.settings)
        return Handle(
            uid=job.uid,
            job_id=job.job_id,
            attempt=attempt,
            backend_job_id=None if number is None else str(number),
            data={"slurm_id": number, "submitted": attempt, "restart": 0, "time_minutes": limit},
        )

    def _follower(self, handle: Handle, cursor: Cursor | None) -> Follower:
        clock, settings = self.context.clock, self.context.settings
        return Follower(
            folder=self._folder(handle.job_id),
            handle=handle,
            pair=pair_of(handle),
            cursor=cursor,
            clock=clock,
            lost_seconds=settings.lost_seconds,
            began=clock.monotonic(),
        )

    def _folder(self, job_id: str) -> JobFolder:
        return JobFolder(Path(self.job_folder(job_id)).absolute())


def _tell(folder: JobFolder, handle: Handle, record: dict[str, object]) -> None:
    """For the run that is followed, also before it claims, or a newer one; calm where the job's folder is gone."""
    pair = pair_of(handle)
    newest = claimed(folder, handle.uid, pair.attempt)
    if folder.path.is_dir():
        folder.command(max(pair, newest.pair) if newest else pair, record)


def _claimed_or_shut_out(folder: JobFolder, uid: str, pair: Pair) -> bool:
    """Whether a run has begun; one that has not is shut out by the fence before anybody looks once more."""
    run = Run(folder, uid, pair)
    if not run.claim.is_dir() and folder.path.is_dir():
        folder.raise_fence(Pair(pair.attempt + 1))
    return run.claim.is_dir()
