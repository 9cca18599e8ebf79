"""What a run's answer to a change means for its job."""

import structlog

from common.backend import Cursor, RunAck
from common.errors import Conflict, IllegalMove
from common.event import JobChanged
from common.job import Job
from common.json_text import to_text
from service.revisions import DEADLINE, Entry, entries, settled, unanswered, value_at
from service.specs import read_spec
from service.store.base import Changes, JobRecord, Store

log = structlog.get_logger(__name__)

_TRIES = 10


async def tell_answer(store: Store, uid: str, attempt: int, ack: RunAck, cursor: Cursor | None) -> Job | None:
    """Tell a change that the run took, or refused, and keep it.

    The answer to any other command changes nothing, nor does one to a deadline, which is the guard's (`tell_held`).
    """
    for _ in range(_TRIES):
        record = await store.job_by_uid(uid)
        known = entries(record.changes)
        asked = next((entry for entry in unanswered(known) if entry["id"] == ack.command_id), None)
        try:
            if asked is None or _is_deadline(asked):
                return await store.append(uid, [], attempt=attempt, cursor=cursor)
            step = (ack.step or 0) if ack.ok else None
            stored = Changes(changes=to_text(settled(known, ack.command_id, step)))
            told = [_changed(record, known, asked, ack, step)]
            return await store.append(
                uid, told, attempt=attempt, cursor=cursor, changes=stored, if_version=record.version
            )
        except IllegalMove as e:
            log.warning("an answer came too late", command=ack.command_id, error=e.message)
            return None
        except Conflict:
            continue
    log.error("an answer could not be stored", command=ack.command_id)
    return None


async def tell_held(store: Store, uid: str, attempt: int, entry_id: str) -> None:
    """Tell a changed deadline, which holds as soon as it is passed on. Raises what the store raises."""
    for _ in range(_TRIES):
        record = await store.job_by_uid(uid)
        known = entries(record.changes)
        asked = next((entry for entry in unanswered(known) if entry["id"] == entry_id), None)
        if asked is None:
            return
        step = reported_step(record.job) or 0
        stored = Changes(changes=to_text(settled(known, entry_id, step)))
        told = JobChanged(request=asked["values"], old=_old(record, known, asked), new=asked["values"], step=step)
        try:
            await store.append(uid, [told], attempt=attempt, changes=stored, if_version=record.version, urgent=True)
        except IllegalMove as e:
            log.warning("a changed deadline came too late", error=e.message)
        except Conflict:
            continue
        return
    log.error("a changed deadline could not be told", change=entry_id)


def given_up(record: JobRecord) -> tuple[list[JobChanged], list[Entry]]:
    """What is told, at the end of a job that succeeded, of changes that its run never took; and the list without."""
    known, told = entries(record.changes), []
    for entry in unanswered(known):
        old = _old(record, known, entry)
        told.append(JobChanged(request=entry["values"], old=old, new=old, error="the run ended before it took it"))
        known = settled(known, entry["id"], None)
    return told, known


def reported_step(job: Job) -> int | None:
    """The last step that a run of the job reported."""
    step = (job.progress or {}).get("step")
    return step if isinstance(step, int) else None


def furthest_step(job: Job, saved: int | None) -> int | None:
    """The last step that is known of a job: a run reported it, or (`saved`) the newest checkpoint has it."""
    known = [step for step in (saved, reported_step(job)) if step is not None]
    return max(known, default=None)


def taken_up(record: JobRecord, step: int) -> tuple[list[JobChanged], list[Entry]]:
    """The list for the run that goes on from `step`, where what no run answered holds from; and what is told of it."""
    known, told = entries(record.changes), []
    for entry in unanswered(known):
        old = _old(record, known, entry)
        told.append(JobChanged(request=entry["values"], old=old, new=entry["values"], step=step))
        known = settled(known, entry["id"], step)
    return told, known


def _changed(record: JobRecord, known: list[Entry], asked: Entry, ack: RunAck, step: int | None) -> JobChanged:
    values, old = asked["values"], _old(record, known, asked)
    if not ack.ok:
        return JobChanged(request=values, old=old, new=old, error=ack.text or "the run refused it")
    return JobChanged(request=values, old=old, new=values, step=step)


def _is_deadline(entry: Entry) -> bool:
    return set(entry["values"]) == {DEADLINE}


def _old(record: JobRecord, known: list[Entry], asked: Entry) -> dict[str, object]:
    request = read_spec(record.spec).request
    return {path: value_at(request, known, path) for path in asked["values"]}
