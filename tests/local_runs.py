"""Real guards over a tiny real program in the trainer's place, for tests of the local backend."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from attrs import evolve

from backends.local.backend import LocalBackend
from common.backend import BackendContext, BackendEvent, Cursor, Handle, JobSpec, RunEnded
from common.clock import Clock
from common.devices import Device, DevicePool
from common.folder import JobFolder, spec_document
from common.job import Job, Status
from common.settings import Settings
from trainyard import guard

TELLER = """
import json, os, signal, subprocess, sys, time
from pathlib import Path

own, job = Path(os.environ["TRAINYARD_ATTEMPT_DIR"]), Path(sys.argv[-1])
count = 0

def tell(kind, at="2026-01-01T00:00:00.000000Z", **data):
    global count
    count += 1
    line = json.dumps({"format": 1, "n": count, "type": kind, "at": at, "data": data}) + "\\n"
    with (own / "events.jsonl").open("a") as file:
        file.write(line)

def until(path):
    while not (job / path).exists():
        time.sleep(0.01)
"""
STOPS = """
def stop(*_):
    tell("checkpoint", step=3, uri="c")
    tell("end", step=3)
    sys.exit(75)

signal.signal(signal.SIGTERM, stop)
"""


class LocalRuns:
    """A data folder, the backends made over it, and the jobs run in them."""

    def __init__(self, folder: Path, devices: int = 0, **settings: Any) -> None:
        quick = {"poll_seconds": 0.02, "grace_seconds": 0.5, "lost_seconds": 0.6}
        self.settings = Settings(data_dir=folder / "a data 'folder'", **{**quick, **settings})
        self.devices = [Device(str(n), "Pretend A100" if n else "Pretend H100") for n in range(devices)]
        self.backends: list[LocalBackend] = []

    def backend(self) -> LocalBackend:
        """Another one over the same folder: what a restarted service has."""
        context = BackendContext(settings=self.settings, clock=Clock(), devices=DevicePool(self.devices))
        self.backends.append(LocalBackend(context))
        return self.backends[-1]

    def job(self, job_id: str = "job-1", attempt: int = 1) -> Job:
        uid = uuid5(NAMESPACE_URL, str(self.folder(job_id).path)).hex  # tests beside this one end runs by their uid
        return Job(uid=uid, job_id=job_id, backend="local", attempt=attempt, status=Status.QUEUED)

    def folder(self, job_id: str = "job-1") -> JobFolder:
        return JobFolder(self.settings.jobs_dir / job_id)

    def spec(self, program: str, gpus: int = 0, **values: Any) -> JobSpec:
        self.settings.jobs_dir.mkdir(parents=True, exist_ok=True)
        script = self.settings.jobs_dir / f"program-{abs(hash(program))}.py"
        script.write_text(TELLER + program)
        needs = {"gpu": gpus} if gpus else {"cpu": 1}
        spec = JobSpec(engine="text", argv=(sys.executable, "-I", "-S", str(script)), needs=needs)
        return evolve(spec, **values)

    async def submit(self, backend: LocalBackend, spec: JobSpec, job: Job | None = None) -> Handle:
        """As dispatch does: the folder first."""
        job = job or self.job()
        secrets = {"values": {"base_model.huggingface_token": "hf_very_secret"}, "env": {"MINE": "mine"}}
        self.folder(job.job_id).make(spec_document(job, spec), job.attempt, secrets)
        return await backend.submit(job, job.attempt, spec)

    def alive(self, job_id: str = "job-1", pair: str = "1.0") -> list[int]:
        return guard.processes_of(f"{self.job(job_id).uid}.{pair}")

    async def until(self, holds: Callable[[], object]) -> None:
        late = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < late, "not within 60 s"
            await asyncio.sleep(0.01)

    async def end(self) -> None:
        """End whatever a failed test left, and wait for the guards."""
        await self.until(self._over)

    def _over(self) -> bool:
        for claimed in self.settings.jobs_dir.glob("*/attempts/*"):
            guard.end_run(f"{self.job(claimed.parts[-3]).uid}.{claimed.name}")
        return not any(guards_of(backend) for backend in self.backends)


@asynccontextmanager
async def local_runs(folder: Path, devices: int = 0, **settings: Any) -> AsyncIterator[LocalRuns]:
    runs = LocalRuns(folder, devices, **settings)
    try:
        yield runs
    finally:
        await runs.end()


async def follow(backend: LocalBackend, handle: Handle, cursor: Cursor | None = None) -> list[BackendEvent]:
    """All that is told of a run; the last is its end."""
    async with asyncio.timeout(120):
        events = [event async for event in backend.watch(handle, cursor)]
    assert isinstance(events[-1].what, RunEnded)
    assert not any(isinstance(event.what, RunEnded) for event in events[:-1])
    return events


async def ended(backend: LocalBackend, handle: Handle) -> RunEnded:
    last = (await follow(backend, handle))[-1].what
    assert isinstance(last, RunEnded)
    return last


def kinds(events: list[BackendEvent]) -> list[str]:
    return [getattr(event.what, "type", type(event.what).__name__) for event in events]


def guards_of(backend: LocalBackend) -> set[int]:
    """The guards that a backend started and that live."""
    backend._reap()
    return backend._children
