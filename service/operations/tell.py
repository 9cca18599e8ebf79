"""What a run says of itself over HTTP, and the commands that wait for it (contract trainer.md, 3)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InvalidRequest, NotFound, Over, TooLarge, Unauthorized
from common.job import Wish
from schemas.values import FieldError
from service.job_tokens import is_token
from service.operations.kubeflow import progress_of
from service.parts import Parts
from service.posted import MOST_ITEMS
from service.store.base import JobRecord

_MOST_BYTES = 1 << 20
_HOW = "send the job's token, TRAINYARD_JOB_TOKEN, as `Authorization: Bearer <token>`; it is good for its own run alone"


async def run_of_token(parts: Parts, job_id: str, attempt: int, token: str | None) -> JobRecord:
    """The job of a run that has shown its token. Raises `Unauthorized`, also where there is no such job, and `Over`."""
    try:
        record = await parts.store.job(job_id)
    except NotFound as e:
        raise Unauthorized(_HOW) from e
    if not token or not await is_token(parts.store, record.job.uid, attempt, token):
        raise Unauthorized(_HOW)
    if record.job.ended:
        raise Over("the job has ended; the program must stop")
    return record


async def tell(parts: Parts, record: JobRecord, attempt: int, items: object, size: int) -> Mapping[str, Any]:
    """Take events. Raises `InvalidRequest`, `TooLarge`, `Over`, `StorageFull`, `Unavailable`."""
    if not isinstance(items, list):
        raise InvalidRequest([FieldError("$", "must be a list of events; an empty one asks for commands only")])
    if len(items) > MOST_ITEMS or size > _MOST_BYTES:
        raise TooLarge(f"at most {MOST_ITEMS} events and {_MOST_BYTES} bytes at once")
    folder = await parts.folders.of_attempt(record.job, attempt)
    taken = await asyncio.to_thread(parts.posted.take, folder, attempt, items)
    error = {} if taken.error is None else {"error": taken.error}
    return {"accepted_through": taken.through, **error, "commands": [*taken.commands, *_wish(record, attempt)]}


async def tell_kubeflow(parts: Parts, record: JobRecord, attempt: int, status: object) -> None:
    """Take a status of Hugging Face's Kubeflow reporting as one `job.progress`. Raises as `tell` does."""
    progress = progress_of(status)
    folder = await parts.folders.of_attempt(record.job, attempt)
    await asyncio.to_thread(parts.posted.progress, folder, attempt, progress)


def _wish(record: JobRecord, attempt: int) -> Sequence[Mapping[str, object]]:
    """A stored wish to cancel or pause is a command too, for programs that poll."""
    if record.wanted is Wish.RUN:
        return ()
    return ({"id": f"{record.wanted}-{attempt}", "command": "stop", "why": str(record.wanted)},)
