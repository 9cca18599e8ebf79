"""Tells how a run ended: the end of its job, or another try."""

import asyncio
from typing import Any

import structlog
from attrs import evolve, fields

from common.backend import RunEnded
from common.clock import Clock
from common.errors import Conflict, IllegalMove
from common.event import Body, JobRunning
from common.exits import Exit
from common.folder import JobFolder, Pair
from common.job import Reason, Status
from common.json_text import to_text
from common.settings import Settings
from service.answers import furthest_step, given_up
from service.checkpoints import newest_step
from service.folders import Folders
from service.live import LiveJob
from service.masker import Masker
from service.metrics import Metrics
from service.outcome import did_all, outcome
from service.retries import once_more
from service.store.base import Changes, JobRecord, Store
from service.untold import untold

log = structlog.get_logger(__name__)


class Ends:
    """What is left to do when nothing of a run is left."""

    def __init__(self, store: Store, folders: Folders, settings: Settings, clock: Clock, metrics: Metrics) -> None:
        self._store = store
        self._folders = folders
        self._settings = settings
        self._clock = clock
        self._metrics = metrics

    async def tell(self, live: LiveJob, ended: RunEnded) -> None:
        """Shut the run out of its folder, take its secrets away, then tell the end. May be called again."""
        attempt = live.handle.attempt
        if live.folder:
            folder = self._folders.with_backend(live.job.backend, live.job.job_id)
            await asyncio.to_thread(close_attempt, folder, attempt)
        if ended.reason is None and ended.code != Exit.DONE and await self._store.stalled(live.job.uid, attempt):
            ended = evolve(ended, reason=Reason.STALLED)
        if live.exhausted is not None and ended.code != Exit.DONE:
            often = f"{live.job.backend} began it again once more than max_retries ({live.max_retries}) allows"
            ended = evolve(ended, reason=live.exhausted, explanation=often)
        while not await self._told(live, ended):  # a wish or a change came meanwhile
            pass

    async def _told(self, live: LiveJob, ended: RunEnded) -> bool:
        """Tell the end that follows from the job as it is now; False when it is that no more."""
        record = await self._store.job_by_uid(live.job.uid)
        attempt, version = live.handle.attempt, record.version
        stand = await untold(self._store, self._folders, live, record)
        saved = None if did_all(ended) else await newest_step(self._store, live.job.uid, stand)
        reached = furthest_step(record.job, saved)
        body = masked(outcome(ended, record.wanted, live.engine, saved, reached), live.masker)
        bodies, stored = await self._what_follows(live, record, body, saved)
        try:
            await self._store.append(
                live.job.uid, [*stand, *bodies], attempt=attempt, changes=stored, if_version=version, urgent=True
            )
        except Conflict:
            return False
        except IllegalMove as e:
            self._metrics.dropped.labels(body.type).inc()
            log.warning("end dropped", error=e.message)
            return True
        log.info("job ended", type=body.type, message=body.message())
        return True

    async def _what_follows(
        self, live: LiveJob, record: JobRecord, end: Body, saved: int | None
    ) -> tuple[list[Body], Changes]:
        first = self._settings.retry_seconds
        again = await once_more(self._store, self._clock, record, end, saved, live.max_retries, first)
        if again is not None:
            return again
        if end.type == "job.paused":
            return [end], Changes(without_run=True)
        if end.type != "job.succeeded":
            return [end], Changes()
        began: list[Body] = [] if record.job.status is Status.RUNNING else [JobRunning()]
        told, changes = given_up(record)
        return [*began, *told, end], Changes(changes=to_text(changes)) if told else Changes()


def masked(body: Body, masker: Masker) -> Body:
    """What a run said, without the job's secrets."""
    if masker.pattern is None:
        return body
    texts: dict[str, Any] = {a.name: masker.value(getattr(body, a.name)) for a in fields(type(body))}
    return evolve(body, **texts)


def close_attempt(folder: JobFolder, attempt: int) -> None:
    """After an attempt: nothing of it may write any more, and its secrets are gone."""
    if folder.path.is_dir():
        folder.raise_fence(Pair(attempt + 1))
        for n in range(attempt, 0, -1):  # a run that was begun again has the secrets of the attempt that was submitted
            for path in (folder.secrets(n), *folder.path.glob(f".{folder.secrets(n).name}.*")):  # or a half-written one
                path.unlink(missing_ok=True)
            for pair in folder.restarts(n):
                (folder.attempt(pair) / "job_token").unlink(missing_ok=True)
