"""A run that its backend itself began again: the job's next attempt, of the same submission."""

import structlog

from common.backend import RunRestarted
from common.event import JobRetrying, JobSubmitted
from common.job import Wish
from service.checkpoints import newest_step
from service.live import LiveJob
from service.orders import Orders
from service.store.base import Changes, Store

log = structlog.get_logger(__name__)


async def begun_again(store: Store, orders: Orders, live: LiveJob, restarted: RunRestarted) -> None:
    """Tell it, and follow the next attempt. It counts as a retry; past `max_retries` the run is asked to end."""
    uid, handle = live.job.uid, restarted.handle
    done, step = await store.retries(uid), await newest_step(store, uid)
    retrying = JobRetrying(reason=restarted.reason, resumed_from=step)
    changes = Changes(handle=handle)
    live.job = await store.append(uid, [retrying], attempt=live.handle.attempt, changes=changes, urgent=True)
    live.handle = handle
    submitted = JobSubmitted(backend=live.job.backend, backend_job_id=handle.backend_job_id)
    live.job = await store.append(uid, [submitted], attempt=handle.attempt, urgent=True)
    log.info("the backend began the run again", reason=restarted.reason, attempt=handle.attempt)
    live.exhausted = restarted.reason if done >= live.max_retries else None
    if live.exhausted is not None or (await store.job_by_uid(uid)).wanted is not Wish.RUN:
        orders.end(uid)
