"""Another try in place of an end that is nobody's fault (contract train.md, `max_retries`)."""

import structlog

from common.clock import Clock, stamp
from common.event import Body, JobFailed, JobRetrying
from common.job import Wish
from common.json_text import to_text
from service.answers import taken_up
from service.outcome import RETRIED
from service.store.base import Changes, JobRecord, Store

log = structlog.get_logger(__name__)

_LONGEST_SECONDS = 300.0
_MOST_DOUBLINGS = 20


async def once_more(
    store: Store, clock: Clock, record: JobRecord, end: Body, saved: int | None, max_retries: int, first_seconds: float
) -> tuple[list[Body], Changes] | None:
    """What is told and stored in place of `end`; None when the end stands.

    `saved`: the step of the newest checkpoint; `first_seconds`: before the first retry.
    """
    if not isinstance(end, JobFailed) or end.reason not in RETRIED or record.wanted is not Wish.RUN:
        return None
    done = len(await store.retries(record.job.uid))
    if done >= max_retries:
        return None
    at = clock.now() + min(first_seconds * 2 ** min(done, _MOST_DOUBLINGS), _LONGEST_SECONDS)
    log.info("the job is tried again", job_id=record.job.job_id, reason=end.reason, attempt=record.job.attempt + 1)
    told, changes = taken_up(record, saved or 0)
    retrying = JobRetrying(reason=end.reason, not_before=stamp(at), resumed_from=saved)
    return [*told, retrying], Changes(not_before=at, changes=to_text(changes))
