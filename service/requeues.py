"""A run that its backend itself began again: the job's next attempt, of the same submission."""

import asyncio
import json
from typing import Any

import structlog

from common.backend import RunRestarted
from common.errors import Conflict, StaleEvent
from common.event import JobRetrying, JobSubmitted
from common.folder import JobFolder, write_whole
from common.job import Reason
from service.checkpoints import newest_step
from service.folders import Folders
from service.live import LiveJob
from service.revisions import deadline_of, entries, for_run, recorded
from service.specs import read_spec
from service.store.base import Changes, JobRecord, Store
from service.untold import untold
from service.wished import leading_to

log = structlog.get_logger(__name__)


async def begun_again(store: Store, folders: Folders, live: LiveJob, restarted: RunRestarted) -> None:
    """Tell it, and let the next attempt be followed; what was changed since the submission holds for it, too.

    It counts as a retry: see `exhausted`.
    """
    while not await _told(store, folders, live, restarted):  # a wish or a change came meanwhile
        pass
    live.handle = restarted.handle
    live.passed_on.clear()
    log.info("the backend began the run again", reason=restarted.reason, attempt=live.handle.attempt)


async def exhausted(store: Store, live: LiveJob) -> Reason | None:
    """Why the run was begun again once more than `max_retries` allows: as that its end is told."""
    reasons = await store.retries(live.job.uid)
    return reasons[0] if len(reasons) > live.max_retries else None


async def _told(store: Store, folders: Folders, live: LiveJob, restarted: RunRestarted) -> bool:
    record = await store.job_by_uid(live.job.uid)
    job, handle = record.job, restarted.handle
    if job.attempt != live.handle.attempt:
        raise StaleEvent(f"attempt {live.handle.attempt} was begun again, and the job is at {job.attempt}")
    if live.folder:
        await asyncio.to_thread(_renew_spec, folders.with_backend(job.backend, job.job_id), record)
    stand = await untold(store, folders, live, record)
    bodies = [
        *stand,
        JobRetrying(reason=restarted.reason, resumed_from=await newest_step(store, job.uid, stand)),
        JobSubmitted(backend=job.backend, backend_job_id=handle.backend_job_id),
        *leading_to(record.wanted),
    ]
    try:
        live.job = await store.append(
            job.uid, bodies, changes=Changes(handle=handle), if_version=record.version, urgent=True
        )
    except Conflict:
        return False
    return True


def _renew_spec(folder: JobFolder, record: JobRecord) -> None:
    """The backend's own submission stands, and so does its `spec.json`: but for what was changed while it ran."""
    changes, spec = entries(record.changes), read_spec(record.spec)
    values: dict[str, Any] = {
        "changes": for_run(changes),
        "deadline_minutes": deadline_of(changes, spec.deadline_minutes),
    }
    if not folder.spec.exists():
        return
    known = json.loads(folder.spec.read_bytes())
    renewed = {key: value for key, value in known.items() if key != "recorded"} | values
    if told := recorded(changes):
        renewed["recorded"] = told
    if known != renewed:
        write_whole(folder.spec, json.dumps(renewed, indent=1).encode())
