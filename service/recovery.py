"""After a restart: adopt what runs, and finish what was wished for (DESIGN, "Order at start")."""

import structlog

from common.errors import InvalidRequest
from common.job import Phase, Wish
from service.dispatch import Dispatch
from service.handover import HandOver
from service.store.base import JobRecord, Store
from service.watch import Watch

log = structlog.get_logger(__name__)

_PAGE = 1000


async def recover(store: Store, watch: Watch, handover: HandOver, dispatch: Dispatch) -> None:
    """Start the watchers of every job that a backend has; waits for no backend."""
    to_withdraw: set[str] = set()
    adopted, after = 0, 0
    while page := await store.to_adopt(after, _PAGE):
        after = page[-1].seq
        for record in page:
            if record.handle is not None:
                adopted += await _adopt(record, store, watch)
                watch.ask_first(record.job.uid)
            elif record.wanted is not Wish.RUN and record.job.phase is not Phase.PAUSED:
                to_withdraw.add(record.job.uid)
    handover.begin(await store.last_accepted())
    dispatch.begin(to_withdraw)
    if adopted:
        log.info("running jobs adopted", jobs=adopted)


async def _adopt(record: JobRecord, store: Store, watch: Watch) -> int:
    assert record.handle is not None
    try:
        watch.begin(record, record.handle)
    except InvalidRequest as e:
        log.error("a live job's backend can't be used", job_id=record.job.job_id, error=e.message)
        await store.set_detail(record.job.uid, e.message)
        return 0
    return 1
