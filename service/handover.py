"""Hands one job over to its backend, or keeps it from being handed over: of the two only one at a time."""

import asyncio
import errno
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from typing import Any

import structlog
from attrs import evolve

from backends.registry import Registry
from common.backend import BaseTrainerBackend, Handle, JobSpec, RunEnded
from common.errors import (
    BackendRefused,
    BackendUnavailable,
    Conflict,
    IllegalMove,
    InvalidRequest,
    NotFound,
    TrainyardError,
    Unavailable,
)
from common.event import Body, JobCancelled, JobFailed, JobPaused, JobSubmitted
from common.folder import JobFolder, spec_document
from common.hands import Hands
from common.job import Job, Reason, Status, Wish
from common.settings import Settings
from service.answers import furthest_step
from service.asked import found_by, returned
from service.checkpoints import newest_step
from service.ends import close_attempt
from service.folders import Folders
from service.job_tokens import TOKEN, base_url, reporting
from service.revisions import deadline_of, entries, for_run, recorded, unanswered
from service.specs import read_spec
from service.store.base import REPLACED, Changes, JobRecord, Store
from service.watch import Watch
from service.wished import tell_again

log = structlog.get_logger(__name__)

_SUBMIT_SECONDS = 120.0
_ASK_SECONDS = 10.0
_TRIES = 10
_MAKERS, _AT_ONCE = 8, 2
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class _NoRoom(Exception):
    """The job folder can't be made, and so nothing was handed over."""


class HandOver:
    """One job at a time goes through here: taken, then submitted, withdrawn or failed, then settled."""

    def __init__(self, store: Store, registry: Registry, folders: Folders, watch: Watch, settings: Settings) -> None:
        self._store = store
        self._registry = registry
        self._folders = folders
        self._watch = watch
        self._settings = settings
        self._taken: set[str] = set()
        self._asking: dict[int, set[str]] = {}
        """For each question to the store who waits: the jobs that were settled since it was asked."""
        self._unsure: set[str] = set()
        """Jobs of which a submission may have gone through without leaving a handle."""
        self._last_of_before = 0
        self._hands: dict[str, Hands] = {}
        """Of each backend its own: a file system that hangs is that of its jobs."""

    def close(self) -> None:
        """Nothing is handed over any more."""
        for hands in self._hands.values():
            hands.close()

    def begin(self, last_of_before: int) -> None:
        """Told once at start: the newest job of the process before, which may have handed over any of its jobs."""
        self._last_of_before = last_of_before

    @property
    def taken(self) -> Set[str]:
        """Jobs that are being submitted, withdrawn or failed at this moment."""
        return self._taken

    def take(self, uid: str) -> None:
        """Keep everybody else from a job until `settle`."""
        self._taken.add(uid)

    def settle(self, uid: str) -> None:
        """It is over with a job, one way or the other."""
        self._taken.discard(uid)
        for settled in self._asking.values():
            settled.add(uid)

    @contextmanager
    def noting_settled(self) -> Iterator[Set[str]]:
        """Jobs that are settled while the store is asked who waits: its answer may be older than their handles."""
        settled: set[str] = set()
        self._asking[id(settled)] = settled
        try:
            yield settled
        finally:
            del self._asking[id(settled)]

    async def submit(self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend) -> None:
        """Hand a taken job over and have it watched. Raises `BackendUnavailable` where it is to be tried again.

        Whatever else the backend raises fails the job. Anything that is raised leaves it open whether there is a run.
        """
        uid = record.job.uid
        try:
            await self._submit(record, spec, backend)
        except TimeoutError as e:
            self._unsure.add(uid)
            raise BackendUnavailable(f"submitting took more than {_SUBMIT_SECONDS:.0f} s") from e
        except BackendRefused as e:
            self._unsure.add(uid)  # until that is told, with a full disk for one
            log.warning("the backend refused the job", error=e.message)
            await self.fail(uid, Reason.REJECTED, e.message)
        except TrainyardError:
            self._unsure.add(uid)
            raise
        except _NoRoom as e:
            log.warning("there is no room for a job folder", error=str(e))
            await self.fail(uid, Reason.DISK_FULL, str(e), prepared=False)
        except Exception as e:  # a backend may raise anything: then this job fails, and no other
            self._unsure.add(uid)  # as above
            log.exception("submission failed")
            await self.fail(uid, Reason.REJECTED, f"{type(e).__name__}: {e}")

    async def _submit(self, record: JobRecord, spec: JobSpec, backend: BaseTrainerBackend) -> None:
        job, handle = record.job, None
        if self._doubtful(record):
            async with asyncio.timeout(_SUBMIT_SECONDS):
                handle = found_by(await backend.find(job, job.attempt))
        if handle is None:
            if spec.folder:
                await self._folders.bring_log(job)  # under no time limit: it may not go on beside a run
            async with asyncio.timeout(_SUBMIT_SECONDS):
                if spec.folder:
                    await self._make_folder(job, spec, backend)
                handle = returned(Handle, await backend.submit(job, job.attempt, spec), "submit")
        await self._handed_over(record, backend, handle)

    async def _make_folder(self, job: Job, spec: JobSpec, backend: BaseTrainerBackend) -> None:
        known = await self._store.secrets(job.uid)
        secrets = secrets_for_run(known)
        if spec.engine == "command":
            secrets |= await reporting(self._store, job, base_url(self._settings, backend), known)
        folder = JobFolder(backend.job_folder(job.job_id))
        hands = self._hands.setdefault(backend.name, Hands(f"folders-{backend.name}", _MAKERS, _AT_ONCE))
        try:
            await hands.do(_make, folder, spec_document(job, spec), job.attempt, secrets)
        except OSError as e:
            if e.errno not in _FULL:
                raise
            raise _NoRoom(f"the job folder {folder.path} can't be written: {e.strerror}") from e

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
        self._watch.orders.change(uid, unanswered(entries(present.changes)))
        if present.wanted is not Wish.RUN:
            await tell_again(self._store, uid)
            self._watch.orders.end(uid)

    def _doubtful(self, record: JobRecord) -> bool:
        return record.seq <= self._last_of_before or record.job.uid in self._unsure

    async def withdraw(self, record: JobRecord) -> bool:
        """Keep a queued job from being handed over: True when nothing was and, until `settle`, nothing will be."""
        uid = record.job.uid
        if uid in self._taken:
            return False
        self.take(uid)
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
                handle = found_by(await backend.find(record.job, record.job.attempt))
        except (BackendUnavailable, InvalidRequest, TimeoutError):
            return False
        except Exception:  # a backend may raise anything; it is asked again
            log.exception("a backend can't be asked for a run", job_id=record.job.job_id)
            return False
        if handle is not None:
            await self._handed_over(record, backend, handle)
        return handle is None

    async def close_attempt(self, job: Job) -> None:
        """Leave nothing of an attempt that was prepared and never handed over."""
        try:
            folder = self._folders.with_backend(job.backend, job.job_id)
        except Unavailable:  # its backend is gone, and with it whatever could run
            return
        await asyncio.to_thread(close_attempt, folder, job.attempt)

    async def fail(self, uid: str, reason: Reason, explanation: str, *, prepared: bool = True) -> None:
        """Fail a taken job that no backend has; one that is to be cancelled or paused is left to that.

        `prepared`: its attempt may have a folder, which is closed first.
        """
        for _ in range(_TRIES):
            record = await self._store.job_by_uid(uid)
            if record.job.status is not Status.QUEUED or record.handle is not None or record.wanted is not Wish.RUN:
                return
            if prepared:
                await self.close_attempt(record.job)
            body = JobFailed(reason=reason, explanation=explanation)
            with suppress(Conflict):  # a change or a wish came meanwhile
                await self._store.append(uid, [body], if_version=record.version, urgent=True)
                self._unsure.discard(uid)
                return
        log.warning("the job changes too fast to be failed; it is tried again", reason=reason)


def _make(folder: JobFolder, document: Mapping[str, object], attempt: int, secrets: Mapping[str, object]) -> None:
    """Make the folder; where that fails no secrets are left in it."""
    try:
        folder.make(document, attempt, secrets)
    except OSError:
        with suppress(OSError):
            folder.secrets(attempt).unlink()
        raise


async def _discard(backend: BaseTrainerBackend, handle: Handle) -> None:
    """End a run that nobody wants any more, and wait until what it holds is free."""
    try:
        async with asyncio.timeout(_SUBMIT_SECONDS):
            events = backend.watch(handle, None)
            await backend.cancel(handle, 0)
            async for event in events:
                if isinstance(event.what, RunEnded):
                    return
    except Exception as e:  # a backend may raise anything; the fence keeps the run from writing
        log.warning("a run that nobody wants may go on", job_id=handle.job_id, error=f"{type(e).__name__}: {e}")


async def granted(store: Store, record: JobRecord, wanted: Wish) -> Body:
    """What is told of a wish to pause or cancel a job that no backend has: it is true at once."""
    saved = await newest_step(store, record.job.uid)
    if wanted is Wish.PAUSE:
        return JobPaused(step=saved)
    return JobCancelled(step=furthest_step(record.job, saved))


def spec_for_run(record: JobRecord) -> JobSpec:
    """The spec with what was changed since it was built."""
    spec, changes = read_spec(record.spec), entries(record.changes)
    return evolve(
        spec,
        changes=tuple(for_run(changes)),
        recorded=tuple(recorded(changes)),
        deadline_minutes=deadline_of(changes, spec.deadline_minutes),
    )


def secrets_for_run(secrets: Mapping[str, str]) -> dict[str, Any]:
    """What a run is handed of a job's secrets (contract trainer.md, 6)."""
    prefix = "extra_parameters.env."
    secrets = {path: value for path, value in secrets.items() if not path.startswith(REPLACED)}
    return {
        "values": {path: value for path, value in secrets.items() if not path.startswith((prefix, TOKEN))},
        "env": {path.removeprefix(prefix): value for path, value in secrets.items() if path.startswith(prefix)},
        "job_token": None,
    }
