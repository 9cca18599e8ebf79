"""What is known of the jobs that have a run at this moment."""

import asyncio
from typing import Any

from attrs import define, field

from common.backend import Handle, JobSpec
from common.job import Job, Reason
from service.masker import Masker


@define(eq=False)
class LiveJob:
    """A job and its run; `heard` is when the run last said something (monotonic)."""

    job: Job
    handle: Handle
    engine: str
    folder: bool
    """Whether the run has a job folder."""
    max_retries: int
    stall_seconds: float | None
    heard: float
    masker: Masker = field(factory=lambda: Masker(()))
    ask_first: bool = False
    """Whether a wish may have been missed: it is passed on before anything is read."""
    unwatched: bool = False
    """Whether the job's detail says that its run can't be watched."""
    exhausted: Reason | None = None
    """Why the run was begun again once more than `max_retries` allows: as that its end is told."""
    ending: Handle | None = None
    """The run that somebody is asking the backend to end."""
    task: "asyncio.Task[None] | None" = None
    changing: asyncio.Lock = field(factory=asyncio.Lock)
    """Changes reach the run in the order in which they were stored."""
    passed_on: set[str] = field(factory=set)

    @classmethod
    def of(cls, job: Job, handle: Handle, spec: JobSpec, now: float) -> "LiveJob":
        """As the job's document wants its run to be looked after."""
        extra: Any = spec.request.get("extra_parameters") or {}
        minutes = extra.get("stall_minutes")
        return cls(
            job=job,
            handle=handle,
            engine=spec.engine,
            folder=spec.folder,
            max_retries=extra.get("max_retries") or 0,
            stall_seconds=None if minutes is None else float(minutes) * 60,
            heard=now,
        )


class LiveJobs:
    """The live jobs by uid: who works on one of them asks whether it is still that one."""

    def __init__(self) -> None:
        self._jobs: dict[str, LiveJob] = {}

    def add(self, live: LiveJob) -> None:
        self._jobs[live.job.uid] = live

    def get(self, uid: str) -> LiveJob | None:
        return self._jobs.get(uid)

    def still(self, live: LiveJob) -> bool:
        """Whether this run is not over; a later run of the same job is another one."""
        return self._jobs.get(live.job.uid) is live

    def remove(self, live: LiveJob) -> None:
        del self._jobs[live.job.uid]

    def all(self) -> list[LiveJob]:
        return list(self._jobs.values())
