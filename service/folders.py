"""Where a job's folder lies: with the backend that took it. The newest one's log holds those before it, too."""

import asyncio
import os
from pathlib import Path

import structlog

from backends.registry import Registry
from common.errors import BackendUnavailable, InvalidRequest, Unavailable
from common.folder import JobFolder
from common.job import Job
from service.store.base import Store

log = structlog.get_logger(__name__)

_RETRY_SECONDS = 60.0
_PIECE = 1 << 20


class Folders:
    """Job folders, by the backend and by the attempt."""

    def __init__(self, store: Store, registry: Registry) -> None:
        self._store = store
        self._registry = registry

    def with_backend(self, backend: str, job_id: str) -> JobFolder:
        """The folder that a backend keeps for a job. Raises `Unavailable` where that backend can't be used."""
        try:
            found = self._registry.get(backend)
        except InvalidRequest as e:
            raise Unavailable(f"the folder of job {job_id!r} can't be found: {e.message}", _RETRY_SECONDS) from e
        return JobFolder(found.job_folder(job_id))

    async def newest(self, job: Job) -> JobFolder:
        """The folder of the newest run, whose log begins with what all runs before it said. Raises `Unavailable`."""
        taken = await self._store.submissions(job.uid)
        return self.with_backend(taken[-1][1] if taken else job.backend, job.job_id)

    async def of_attempt(self, job: Job, attempt: int) -> JobFolder:
        """The folder of one attempt, also while it is handed over. Raises `Unavailable`."""
        taken = dict(await self._store.submissions(job.uid))
        return self.with_backend(taken.get(attempt, job.backend), job.job_id)

    async def bring_log(self, job: Job) -> None:
        """Before a run on another backend begins: put the log so far into its folder, for it to go on there.

        May be called again until the run begins. Raises `BackendUnavailable` where it can't be written.
        """
        if job.attempt == 1:  # nobody had it before
            return
        taken = await self._store.submissions(job.uid)
        if not taken or taken[-1][1] == job.backend:
            return
        target = self.with_backend(job.backend, job.job_id).log
        try:
            source = self.with_backend(taken[-1][1], job.job_id).log
        except Unavailable as e:
            log.warning("the log of earlier attempts is left behind", job_id=job.job_id, error=e.message)
            return
        if source == target:
            return
        try:
            await asyncio.to_thread(_copy, source, target)
        except OSError as e:
            raise BackendUnavailable(f"the log of earlier attempts can't be written to {target}: {e}") from e


def _copy(source: Path, target: Path) -> None:
    """Copy a log aside and rename it into place; the hole that trimming left in it stays one."""
    if not source.exists():
        return
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    with source.open("rb") as old, os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as new:
        new.truncate(0)
        while piece := old.read(_PIECE):
            if piece.strip(b"\0"):
                new.write(piece)
            else:
                new.seek(len(piece), os.SEEK_CUR)
        new.truncate(old.tell())
        new.flush()
        os.fsync(new.fileno())
    aside.rename(target)
