"""Accept a job, durably."""

from collections.abc import Sequence

import structlog

from common.clock import new_id
from common.errors import Conflict, NotFound, RateLimited, StorageFull
from common.event import LIFECYCLE
from common.job import Status
from common.json_text import to_text
from common.storage import checkpoint_owner, local_path
from schemas.train import TrainRequest
from service.job_tokens import first_token
from service.operations.accept import Accepted
from service.parts import Parts
from service.specs import write_spec, write_warnings
from service.store.base import JobRecord, NewJob

log = structlog.get_logger(__name__)


async def submit(parts: Parts, accepted: Accepted) -> tuple[JobRecord, bool]:
    """The accepted job and whether it is new; the same document again gives the job that exists.

    Raises `Conflict`, `StorageFull`, `RateLimited`, `Unavailable`.
    """
    await _room(parts)
    uid = new_id()
    foreign = await parts.looks.do(_foreign, accepted) if accepted.spec.output else None
    if foreign is not None and not await _known(parts, accepted.request.job_id):
        raise Conflict(
            f"artifacts.output_uri: {foreign} is a checkpoint of another job; choose another folder or another job_id"
        )
    request = accepted.request
    record, fresh = await parts.store.add_job(
        NewJob(
            uid=uid,
            job_id=request.job_id,
            backend=accepted.backend,
            priority=request.priority,
            lane=f"{accepted.backend}/{accepted.spec.lane}",
            labels=request.labels,
            document=to_text(accepted.document),
            spec=write_spec(accepted.spec),
            warnings=write_warnings(accepted.warnings),
            hooks=hooks(request),
            secrets={**accepted.secrets, **first_token(accepted.spec)},
        )
    )
    if fresh:
        parts.metrics.submitted.inc()
        log.debug("job accepted", job_id=request.job_id, backend=accepted.backend)
    return record, fresh


def hooks(request: TrainRequest) -> dict[str, Sequence[str]]:
    """The event types for each of a job's own targets; two equal URLs are one target."""
    webhook, stream = request.callbacks.webhook_url, request.artifacts.status_stream_url
    types = sorted(LIFECYCLE)
    if "callbacks.event_filter" in request.asked:
        types = sorted({f"job.{name}" for name in request.callbacks.event_filter})
    found: dict[str, Sequence[str]] = {}
    if webhook is not None:
        found["webhook"] = types
    if stream is not None and stream != webhook:
        found["stream"] = types
    return found


async def _room(parts: Parts) -> None:
    """Refuse what there is no room for. Both numbers are looked at once a second at most."""
    free = await parts.free_bytes()
    if free < parts.settings.min_free_bytes:
        raise StorageFull(
            f"{free >> 20} MiB are free under {parts.settings.data_dir}, {parts.settings.min_free_bytes >> 20} MiB "
            "are kept free; make room or lower TRAINYARD_MIN_FREE_BYTES"
        )
    queued = (await parts.counts()).jobs.get(Status.QUEUED, 0)
    if queued >= parts.settings.max_queued_jobs:
        raise RateLimited(f"{queued} jobs are queued, the limit is {parts.settings.max_queued_jobs}", retry_after=30)


async def _known(parts: Parts, job_id: str) -> bool:
    """Whether there is a job of this id already: then it is its checkpoint, or the id is the conflict."""
    try:
        await parts.store.job(job_id)
    except NotFound:
        return False
    return True


def _foreign(accepted: Accepted) -> str | None:
    """A checkpoint under a local output folder, whose job can't be this new one; in a bucket the run looks for one."""
    folder = local_path(accepted.spec.output or "")
    return None if folder is None else checkpoint_owner(folder)
