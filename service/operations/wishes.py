"""A wish of a caller for a live job: stored before it is acted on, and told by the phase that leads to it."""

from attrs import evolve

from common.errors import Conflict, IllegalMove
from common.event import Body, JobCancelled, JobPaused, JobPhase
from common.job import Phase, Status, Wish
from service.parts import Parts
from service.store.base import Changes, JobRecord

TRIES = 10
_ENDS: dict[Wish, type[Body]] = {Wish.CANCEL: JobCancelled, Wish.PAUSE: JobPaused}
_PHASES = {Wish.CANCEL: Phase.STOPPING, Wish.PAUSE: Phase.PAUSING}


async def wish(parts: Parts, record: JobRecord, wanted: Wish) -> JobRecord | None:
    """Store the wish and act on it; the job with the wish, or None when it moved on meanwhile."""
    uid, stored = record.job.uid, Changes(wanted=wanted)
    if record.job.phase is Phase.PAUSED:
        return await _at_once(parts, record, wanted)
    queued = record.job.status is Status.QUEUED and record.handle is None
    if queued and await parts.dispatch.withdraw(record):
        try:
            await parts.dispatch.close_attempt(record.job)
            return await _at_once(parts, record, wanted)
        finally:
            parts.dispatch.settle(uid)
    version = record.version if record.job.status is Status.QUEUED else None  # a run's progress is no obstacle
    body = JobPhase(phase=_PHASES[wanted])
    try:
        job = await parts.store.append(
            uid, [body], attempt=record.job.attempt, changes=stored, if_version=version, urgent=True
        )
    except (Conflict, IllegalMove):
        return None
    if job.status is Status.QUEUED:  # it may be queued again, or paused, only since it was read
        parts.dispatch.withdraw_later(uid)
    await parts.watch.cancel(uid)
    return evolve(record, job=job, wanted=wanted)


async def _at_once(parts: Parts, record: JobRecord, wanted: Wish) -> JobRecord | None:
    """Nothing was handed over: the wish is true as soon as it is told."""
    body, stored = _ENDS[wanted](), Changes(wanted=wanted)
    try:
        job = await parts.store.append(record.job.uid, [body], changes=stored, if_version=record.version, urgent=True)
    except Conflict:
        return None
    return evolve(record, job=job, wanted=wanted)
