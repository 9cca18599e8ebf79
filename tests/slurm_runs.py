"""Real Slurm jobs of a tiny real program, submitted through the backend alone."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from attrs import evolve

from backends.slurm.backend import SlurmBackend
from backends.slurm.spec import OPTIONS
from common.backend import BackendContext, BackendEvent, Cursor, Handle, JobSpec, RunDetail, RunEnded, RunRestarted
from common.clock import Clock
from common.devices import DevicePool
from common.folder import JobFolder, spec_document
from common.job import Job, Status
from common.settings import Settings
from tests.local_runs import TELLER

_SECONDS = 60


class SlurmRuns:
    """A data folder, the backends made over it, and the jobs run in them."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        quick = {"slurm_poll_seconds": 0.2, "grace_seconds": 5.0, "lost_seconds": 0.6}
        self.settings = Settings(data_dir=folder / "a data 'folder' 100%j", **{**quick, **settings})
        self.settings.jobs_dir.mkdir(parents=True)
        self.backends: list[SlurmBackend] = []

    async def backend(self) -> SlurmBackend:
        """Another one over the same folder: what a restarted service has."""
        context = BackendContext(settings=self.settings, clock=Clock(), devices=DevicePool(()))
        self.backends.append(SlurmBackend(context))
        await self.backends[-1].start()
        return self.backends[-1]

    def job(self, job_id: str = "job-1", attempt: int = 1) -> Job:
        uid = uuid5(NAMESPACE_URL, str(self.folder(job_id).path)).hex  # tests beside this one end runs by their uid
        return Job(uid=uid, job_id=job_id, backend="slurm", attempt=attempt, status=Status.QUEUED)

    def folder(self, job_id: str = "job-1") -> JobFolder:
        return JobFolder(self.settings.jobs_dir / job_id)

    def spec(self, program: str, **ours: Any) -> JobSpec:
        script = self.settings.jobs_dir / f"program-{abs(hash(program))}.py"
        script.write_text(TELLER + program)
        asked = {"nodes": 1, "gpus": 0, "cpus": 1, "memory_mib": 200, "restarts": False, **ours}
        argv = (sys.executable, "-I", "-S", str(script))
        return JobSpec(engine="text", argv=argv, options={OPTIONS: asked}, deadline_minutes=10)

    async def submit(self, backend: SlurmBackend, spec: JobSpec, job: Job | None = None) -> Handle:
        """As dispatch does: the folder first."""
        job = job or self.job()
        self.folder(job.job_id).make(spec_document(job, spec), job.attempt, {"values": {}, "env": {}})
        return await backend.submit(job, job.attempt, spec)

    async def claimed(self, job_id: str = "job-1", pair: str = "1.0") -> None:
        events = self.folder(job_id).path / "attempts" / pair / "events.jsonl"
        await until(lambda: events.exists() and events.stat().st_size)


async def until(holds: Callable[[], object], seconds: float = _SECONDS) -> None:
    late = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < late, f"not within {seconds} s"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def slurm_runs(folder: Path, **settings: Any) -> AsyncIterator[SlurmRuns]:
    runs = SlurmRuns(folder, **settings)
    try:
        yield runs
    finally:
        for backend in runs.backends:
            await backend.close()


async def follow(backend: SlurmBackend, handle: Handle, cursor: Cursor | None = None) -> list[BackendEvent]:
    """All that is told of a run; the last is its end, or that it was begun again."""
    async with asyncio.timeout(_SECONDS):
        return [event async for event in backend.watch(handle, cursor)]


async def ended(backend: SlurmBackend, handle: Handle) -> RunEnded:
    last = (await follow(backend, handle))[-1].what
    assert isinstance(last, RunEnded), last
    return last


async def begun_again(backend: SlurmBackend, handle: Handle) -> RunRestarted:
    last = (await follow(backend, handle))[-1].what
    assert isinstance(last, RunRestarted), last
    return last


async def detail(backend: SlurmBackend, handle: Handle, words: str) -> str:
    """The first sentence with these words on why a job waits."""
    async with asyncio.timeout(_SECONDS):
        async for event in backend.watch(handle, None):
            if isinstance(event.what, RunDetail) and words in event.what.text:
                return event.what.text
    raise AssertionError(f"{words!r} was never said")


def with_settings(runs: SlurmRuns, **values: Any) -> None:
    runs.settings = evolve(runs.settings, **values)
