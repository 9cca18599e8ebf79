"""What a run's answer to a change means for its job."""

import structlog

from common.backend import Cursor, RunAck
from common.errors import Conflict, IllegalMove
from common.event import JobChanged
from common.job import Job
from common.json_text import to_text
from service.revisions import Entry, entries, settled, unanswered, value_at
from service.specs import read_spec
from service.store.base import Changes, JobRecord, Store

log = structlog.get_logger(__name__)

_TRIES = 10


async def tell_answer(store: Store, uid: str, attempt: int, ack: RunAck, cursor: Cursor | None) -> Job | None:
    """Tell a change that the run took, or refused, and keep it; the answer to any other command changes nothing."""
    for _ in range(_TRIES):
        record = await store.job_by_uid(uid)
        known = entries(record.changes)
        asked = next((entry for entry in unanswered(known) if entry["id"] == ack.command_id), None)
        try:
            if asked is None:
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


def taken_up(record: JobRecord, step: int) -> tuple[list[JobChanged], list[Entry]]:
    """The list for the run that goes on from `step`, where what no run answered holds from; and what is told of it."""
    request, known, told = read_spec(record.spec).request, entries(record.changes), []
    for entry in unanswered(known):
        old = {path: value_at(request, known, path) for path in entry["values"]}
        told.append(JobChanged(request=entry["values"], old=old, new=entry["values"], step=step))
        known = settled(known, entry["id"], step)
    return told, known


def _changed(record: JobRecord, known: list[Entry], asked: Entry, ack: RunAck, step: int | None) -> JobChanged:
    values, request = asked["values"], read_spec(record.spec).request
    old = {path: value_at(request, known, path) for path in values}
    if not ack.ok:
        return JobChanged(request=values, old=old, new=old, error=ack.text or "the run refused it")
    return JobChanged(request=values, old=old, new=values, step=step)
