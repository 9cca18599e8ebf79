"""Hold a job: its devices are given back, its place and sequence are kept."""

from common.errors import Conflict, NotSupported
from common.job import Phase, Wish
from service.operations.wishes import TRIES, wish
from service.parts import Parts
from service.store.base import JobRecord, Scope


async def pause(parts: Parts, job_id: str, scope: Scope) -> tuple[JobRecord, bool]:
    """The job after the wish is stored, and whether it was stored just now: False where it was before.

    Raises `NotFound`; `Conflict` for a job that has ended or is being ended; `NotSupported` where its backend can't.
    """
    for _ in range(TRIES):
        record = await parts.store.job(job_id, scope)
        if record.job.ended:
            raise Conflict(f"job {job_id!r} is {record.job.status}; only a queued or running job can be paused")
        if record.wanted is Wish.CANCEL:
            raise Conflict(f"job {job_id!r} is being cancelled; it can be resumed once it has ended")
        if record.job.phase is Phase.PAUSED or record.wanted is Wish.PAUSE:
            return record, False
        if record.handle is not None and "pause" not in parts.registry.get(record.job.backend).capabilities:
            raise NotSupported(f"backend {record.job.backend!r} can't pause a job; cancel it and resume it later")
        if (wished := await wish(parts, record, Wish.PAUSE)) is not None:
            return wished, True
    raise Conflict(f"job {job_id!r} changes too fast; send the request again")
