"""The phase that leads to what was wished of a live job: shown until it is granted (contract train.md, 3)."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from common.backend import Cursor
from common.errors import Conflict
from common.event import Body, JobPhase
from common.job import Job, Phase, Wish
from service.store.base import JobRecord, Store

_PHASES: Mapping[Wish, Phase] = {Wish.CANCEL: Phase.STOPPING, Wish.PAUSE: Phase.PAUSING}
_TURNS = frozenset({"job.running", "job.phase"})


def leading_to(wanted: Wish) -> list[Body]:
    """What is told of a wish until it is granted: nothing where it is that the job runs."""
    return [JobPhase(phase=_PHASES[wanted])] if wanted in _PHASES else []


async def append_said(store: Store, uid: str, bodies: Sequence[Body], attempt: int, cursor: Cursor | None) -> Job:
    """Append what a run said; where that turns a job to another phase, the one of a wish is told again behind it.

    Both in one transaction: nobody sees the job in the run's phase. Raises as `Store.append`, but no `Conflict`.
    """
    if not any(body.type in _TURNS for body in bodies):
        return await store.append(uid, bodies, attempt=attempt, cursor=cursor)
    while True:
        record = await store.job_by_uid(uid)
        told = [*bodies, *_still(record)]
        with suppress(Conflict):  # a wish or a change came meanwhile
            return await store.append(uid, told, attempt=attempt, cursor=cursor, if_version=record.version)


async def tell_again(store: Store, uid: str) -> None:
    """Tell the phase of a wish that a submission overtook, unless it is granted by now."""
    while True:
        record = await store.job_by_uid(uid)
        if record.job.ended or not (told := _still(record)):
            return
        with suppress(Conflict):  # as above
            await store.append(uid, told, if_version=record.version)
            return


def _still(record: JobRecord) -> list[Body]:
    """What is told again: a wish that is granted is none any more."""
    return [] if record.job.phase is Phase.PAUSED else leading_to(record.wanted)
