"""End a job that has not ended."""

from common.errors import Conflict
from common.job import Status, Wish
from service.operations.wishes import TRIES, wish
from service.parts import Parts
from service.store.base import JobRecord, Scope


async def cancel(parts: Parts, job_id: str, scope: Scope, *, repeatable: bool) -> tuple[JobRecord, bool]:
    """The job after the wish is stored, and whether there is something to end.

    `repeatable`: a job that is cancelled already is no conflict. Raises `NotFound`, and `Conflict` for an ended job.
    """
    for _ in range(TRIES):
        record = await parts.store.job(job_id, scope)
        if record.job.ended:
            if repeatable and record.job.status is Status.CANCELLED:
                return record, False
            raise Conflict(f"job {job_id!r} is {record.job.status} already; there is nothing to end")
        if record.wanted is Wish.CANCEL:
            return record, True
        if (wished := await wish(parts, record, Wish.CANCEL)) is not None:
            return wished, True
    raise Conflict(f"job {job_id!r} changes too fast; send the request again")
