"""A wish of a caller for a live job: stored before it is acted on, and told by the phase that leads to it."""

from attrs import evolve

from common.errors import Conflict, IllegalMove
from common.job import Phase, Status, Wish
from service.handover import granted
from service.parts import Parts
from service.store.base import Changes, JobRecord
from service.wished import leading_to

TRIES = 10


async def wish(parts: Parts, record: JobRecord, wanted: Wish) -> JobRecord | None:
    """Store the wish and act on it; the job with the wish, or None when it moved on meanwhile."""
    uid, stored = record.job.uid, Changes(wanted=wanted)
    if record.job.phase is Phase.PAUSED:
        return await _at_once(parts, record, wanted)
    queued = record.job.status is Status.QUEUED and record.handle is None
    if queued and await parts.handover.withdraw(record):
        try:
            return await _withdrawn(parts, record, stored)
        finally:
            parts.handover.settle(uid)
    cancels_run = wanted is Wish.CANCEL and record.job.status is Status.RUNNING  # then nothing is an obstacle
    version = None if cancels_run else record.version
    try:
        job = await parts.store.append(
            uid, leading_to(wanted), attempt=record.job.attempt, changes=stored, if_version=version, urgent=True
        )
    except (Conflict, IllegalMove):
        return None
    if job.status is Status.QUEUED:  # it may be queued again, or paused, only since it was read
        parts.dispatch.withdraw_later(uid)
    parts.watch.orders.end(uid)
    return evolve(record, job=job, wanted=wanted)


async def _withdrawn(parts: Parts, record: JobRecord, stored: Changes) -> JobRecord | None:
    """Stored first: once the attempt is closed it can't be handed over any more, and a restart must know why."""
    uid, wanted = record.job.uid, stored.wanted
    assert wanted is not None
    try:
        await parts.store.append(uid, [], changes=stored, if_version=record.version, urgent=True)
    except Conflict:
        return None
    parts.dispatch.withdraw_later(uid)  # for the case that something fails from here on
    await parts.handover.close_attempt(record.job)
    return await _at_once(parts, await parts.store.job_by_uid(uid), wanted)


async def _at_once(parts: Parts, record: JobRecord, wanted: Wish) -> JobRecord | None:
    """Nothing was handed over: the wish is true as soon as it is told."""
    body, stored = await granted(parts.store, record, wanted), Changes(wanted=wanted)
    try:
        job = await parts.store.append(record.job.uid, [body], changes=stored, if_version=record.version, urgent=True)
    except Conflict:
        return None
    return evolve(record, job=job, wanted=wanted)
