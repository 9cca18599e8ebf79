"""End a job that has not ended."""

from attrs import evolve

from common.errors import Conflict, IllegalMove
from common.event import JobCancelled, JobPhase
from common.job import Phase, Status, Wish
from service.parts import Parts
from service.store.base import Changes, JobRecord, Scope

_TRIES = 10


async def cancel(parts: Parts, job_id: str, scope: Scope, *, repeatable: bool) -> tuple[JobRecord, bool]:
    """The job after the wish is stored, and whether there is something to end.

    `repeatable`: a job that is cancelled already is no conflict. Raises `NotFound`, and `Conflict` for an ended job.
    """
    for _ in range(_TRIES):
        record = await parts.store.job(job_id, scope)
        if record.job.ended:
            if repeatable and record.job.status is Status.CANCELLED:
                return record, False
            raise Conflict(f"job {job_id!r} is {record.job.status} already; there is nothing to end")
        if record.wanted is Wish.CANCEL:
            return record, True
        if (wished := await _wish(parts, record)) is not None:
            return wished, True
    raise Conflict(f"job {job_id!r} changes too fast; send the request again")


async def _wish(parts: Parts, record: JobRecord) -> JobRecord | None:
    """Store the wish and act on it; the job with the wish, or None when it moved on meanwhile."""
    uid = record.job.uid
    stored = Changes(wanted=Wish.CANCEL)
    queued = record.job.status is Status.QUEUED and record.handle is None
    if queued and await parts.dispatch.withdraw(record):
        try:
            await parts.dispatch.close_attempt(record.job)
            job = await parts.store.append(
                uid, [JobCancelled()], changes=stored, if_version=record.version, urgent=True
            )
        except Conflict:
            return None
        finally:
            parts.dispatch.settle(uid)
        return evolve(record, job=job)
    version = record.version if record.job.status is Status.QUEUED else None  # a run's progress is no obstacle
    body = JobPhase(phase=Phase.STOPPING)
    try:
        job = await parts.store.append(
            uid, [body], attempt=record.job.attempt, changes=stored, if_version=version, urgent=True
        )
    except (Conflict, IllegalMove):
        return None
    if queued:
        parts.dispatch.withdraw_later(uid)
    await parts.watch.cancel(uid)
    return evolve(record, job=job)
