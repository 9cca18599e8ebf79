"""Keeps `train.log`, `metrics.jsonl` and `events.jsonl` in the log folder of a job's document (train.md, 2).

A folder in an object store is first kept on this machine, below `<data>/mirrors`, and put from there.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from attrs import define

from common.access import Auth
from common.errors import NotFound, TrainyardError
from common.hands import Hands
from common.settings import Settings
from common.storage import local_path
from service import mirror_notes as notes
from service.folders import Folders
from service.logs import View
from service.masker import Masker
from service.mirror_files import Kept, append, copy_log, load
from service.mirror_objects import RemoteFolder
from service.store.base import Store, StoredEvent

log = structlog.get_logger(__name__)

_PAGE = 500
_COPIES = 4
_LONGEST_WAIT = 60.0
_GIVE_UP_SECONDS = 3600.0


@define
class _Watched:
    """A job whose log folder is kept. `waits`: it is in the queue or being copied.

    `place` is where the document wants it; `folder` is that, or the folder of this machine from which objects are put.
    """

    uid: str
    job_id: str
    place: str
    folder: Path
    registered: bool = False
    waits: bool = False
    ended: bool = False
    kept: Kept | None = None
    view: View | None = None
    source: Path | None = None
    remote: RemoteFolder | None = None
    #: It may have events that are not in the folder.
    stale: bool = True
    began: bool = False
    failures: int = 0
    failing_since: float = 0.0
    not_before: float = 0.0
    renewed: int = 0

    @property
    def quiet(self) -> bool:
        """Whether only events can be news of it: no run has begun, and there is no log yet."""
        return not self.began and not self.ended and self.kept is not None and not self.kept.offset

    @property
    def far(self) -> bool:
        """Whether its folder lies in an object store."""
        return local_path(self.place) is None


class Mirror:
    """A side task that ends only by cancellation.

    Which folders are kept is noted in `<data>/mirrors`, so that a folder is completed also when the service was killed
    between a job's end and the last copy. Files are written in threads of its own: a folder on a file system that hangs
    holds up other copies at most, never the service.
    """

    def __init__(self, store: Store, folders: Folders, settings: Settings) -> None:
        self._store = store
        self._folders = folders
        self._settings = settings
        self._register = settings.data_dir / "mirrors"
        self._watched: dict[str, _Watched] = {}
        self._seen = 0
        #: Of folders and of object stores apart: a network that is lost holds up no folder.
        self._queues: dict[bool, asyncio.Queue[_Watched]] = {far: asyncio.Queue() for far in (False, True)}
        self._hands = {far: Hands(f"mirror-{far}", _COPIES, 1) for far in (False, True)}

    def watch(self, uid: str, job_id: str, place: str | Path) -> None:
        """Keep the folder at a path or URI from now on; may be called again for the same job, also after `finish`."""
        job = self._watched.get(uid)
        if job is None or job.place != str(place):
            job = self._watched[uid] = self._new(uid, job_id, str(place))
        job.ended, job.view, job.remote = False, None, None
        job.renewed += 1
        self._enqueue(job)

    def _new(self, uid: str, job_id: str, place: str) -> _Watched:
        return _Watched(uid, job_id, place, local_path(place) or self._register / f"{uid}.files")

    def finish(self, uid: str) -> None:
        """The job has ended: complete its folder, then forget it. Returns at once."""
        job = self._watched.get(uid)
        if job is not None:
            job.ended = True
            job.renewed += 1
            self._enqueue(job)

    @property
    def unfinished(self) -> int:
        """How many folders are still kept."""
        return len(self._watched)

    async def run(self) -> None:
        """Copy until cancelled."""
        with suppress(TrainyardError):  # then every folder is looked at once more
            _, self._seen = await self._store.event_bounds()  # before anything is copied
        copiers = [
            asyncio.create_task(self._copier(queue), name=f"mirror-{far}-{n}")
            for far, queue in self._queues.items()
            for n in range(_COPIES)
        ]
        try:
            await self._take_up()
            while True:
                await asyncio.sleep(self._settings.mirror_seconds)
                await self._note_stale()
                for job in list(self._watched.values()):
                    if job.stale or not job.quiet:
                        self._enqueue(job)
        finally:
            for copier in copiers:
                copier.cancel()
            await asyncio.gather(*copiers, return_exceptions=True)
            for hands in self._hands.values():
                hands.close()

    async def _note_stale(self) -> None:
        """Which folders lack events: one question for all of them."""
        try:
            _, newest = await self._store.event_bounds()
            told = await self._store.told(self._seen, newest)
        except TrainyardError as e:
            log.warning("mirror: the store can't be asked for news", error=e.message)
            return
        self._seen = newest
        for uid in told & self._watched.keys():
            self._watched[uid].stale = True

    async def _take_up(self) -> None:
        """What an earlier service left unfinished; whether it ended meanwhile says the store."""
        try:
            found = await self._thread(notes.read, self._register)
            for uid, note in found.items():
                if uid not in self._watched:
                    job = self._new(uid, note["job_id"], note["folder"])
                    job.registered = True
                    await self._take_up_one(job)
        except Exception:
            log.exception("mirror: the notes of an earlier run can't be read")

    async def _take_up_one(self, job: _Watched) -> None:
        try:
            job.ended = (await self._store.job_by_uid(job.uid)).job.ended
        except NotFound:
            await self._forget(job)
        else:
            if self._watched.setdefault(job.uid, job) is job:
                self._enqueue(job)

    def _enqueue(self, job: _Watched) -> None:
        if not job.waits and time.monotonic() >= job.not_before:
            job.waits = True
            self._queues[job.far].put_nowait(job)

    async def _copier(self, queue: "asyncio.Queue[_Watched]") -> None:
        while True:
            job = await queue.get()
            renewed = job.renewed
            try:
                await self._copy(job)
                job.failures, job.not_before = 0, 0.0
                if job.ended and job.renewed == renewed:
                    await self._forget(job)
            except NotFound:  # purged, and its secrets with it: without them nothing can be masked
                await self._forget(job)
            except Exception as e:
                await self._failed(job, e)
            finally:
                job.waits = False
            if job.renewed != renewed and self._watched.get(job.uid) is job:
                self._enqueue(job)

    async def _failed(self, job: _Watched, error: Exception) -> None:
        """Say it with the job's id, and try again later; a job that has ended is given up after an hour."""
        now = time.monotonic()
        job.failing_since = job.failing_since if job.failures else now
        job.failures += 1
        job.kept, job.remote = None, None
        wait = min(self._settings.mirror_seconds * 2.0 ** min(job.failures - 1, 10), _LONGEST_WAIT)
        job.not_before = now + wait
        given_up = job.ended and now - job.failing_since > _GIVE_UP_SECONDS
        log.warning(
            "mirror: the log folder can't be written" + ("; given up" if given_up else ""),
            job_id=job.job_id,
            folder=job.place,
            error=f"{type(error).__name__}: {error}",
            next_try_in=None if given_up else round(wait, 1),
        )
        if given_up:
            await self._forget(job)

    async def _copy(self, job: _Watched) -> None:
        """One pass: new events and metrics, then what the log has grown by."""
        ended = job.ended
        if job.view is None:
            job.source = (await self._folders.newest((await self._store.job_by_uid(job.uid)).job)).log
            job.view = View(masker=Masker((await self._store.secrets(job.uid)).values()))
        events = await self._news(job) if job.stale or ended or job.kept is None else []
        limit = self._settings.max_train_log_bytes
        job.kept = await self._thread(_write, self._register, job, events, limit, ended)
        job.registered = True
        if job.far:
            if job.remote is None:
                auth = await self._auth(job)
                job.remote = await self._thread(RemoteFolder, job.place, auth, job.uid, far=True)
            await self._thread(job.remote.keep, job.folder, ended, far=True)

    async def _auth(self, job: _Watched) -> Auth:
        """The credentials that the document gives for its artifacts."""
        document = json.loads((await self._store.job_by_uid(job.uid)).document)
        part = (document.get("artifacts") or {}).get("auth")
        return Auth.of(part, await self._store.secrets(job.uid), "artifacts.auth", job.job_id)

    async def _news(self, job: _Watched) -> list[StoredEvent]:
        """The last page of the events that may lack in the folder; the pages before it are written."""
        job.stale, kept = False, job.kept
        while events := await self._store.events(job.uid, kept.event_id if kept else 0, _PAGE):
            job.began = job.began or any(event.type == "job.running" for event in events)
            if len(events) < _PAGE:
                break
            job.kept = kept = await self._thread(_write_events, self._register, job, events)
            job.registered = True
        return events

    async def _forget(self, job: _Watched) -> None:
        if self._watched.get(job.uid) is job:
            del self._watched[job.uid]
        try:
            await self._thread(notes.remove, self._register, job.uid)
        except OSError as e:
            log.warning("mirror: a note can't be removed", job_id=job.job_id, error=str(e))

    async def _thread(self, work: Any, *arguments: Any, far: bool = False) -> Any:
        return await self._hands[far].do(work, *arguments)


def _write(register: Path, job: _Watched, events: Sequence[StoredEvent], limit: int, ended: bool) -> Kept:
    """Events and metrics, then what the log has grown by."""
    assert job.source is not None
    assert job.view is not None
    return copy_log(job.source, job.folder, _write_events(register, job, events), job.view, limit, ended)


def _write_events(register: Path, job: _Watched, events: Sequence[StoredEvent]) -> Kept:
    """Those that are not in the folder yet; before the first of them it is noted that the folder is kept."""
    if not job.registered:
        notes.write(register, job.uid, job.job_id, job.place)
    kept = job.kept or load(job.folder, job.uid)
    if not (lacking := [event for event in events if event.id > kept.event_id]):
        return kept
    lines = "".join(f"{event.text}\n" for event in lacking).encode()
    metrics = "".join(_metric(event) for event in lacking if event.type == "job.progress").encode()
    return append(job.folder, kept, lines, metrics, lacking[-1].id)


def _metric(event: StoredEvent) -> str:
    """A line of `metrics.jsonl`."""
    served = json.loads(event.text)
    line = {**served["data"], "time": served["time"], "attempt": served["attempt"]}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"
