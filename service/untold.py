"""Checkpoints that stand and were not told: their run ended between the rename and the event (docs/TRAINER.md)."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import structlog
from attrs import frozen

from common.clock import stamp
from common.event import JobCheckpoint
from common.folder import Pair
from common.job import Status
from common.storage import local_path
from service.checkpoints import RECORD, whole_record
from service.folders import Folders
from service.live import LiveJob
from service.masker import Masker
from service.specs import read_spec
from service.store.base import JobRecord, Store

log = structlog.get_logger(__name__)

_PREFIX = "step-"


async def untold(store: Store, folders: Folders, live: LiveJob, record: JobRecord) -> list[JobCheckpoint]:
    """What is told of an attempt that is over, by step, in front of what follows from its end.

    Asked when the attempt is shut out and all that it said is stored. A process of it that had looked at the fence
    before may still rename one: the next end tells that. A program of the caller's own tells its checkpoints itself.
    """
    if record.job.status is not Status.RUNNING or live.engine == "command" or not live.folder:
        return []
    place = _Place.of(record, folders, live)
    if place is None or not (steps := await asyncio.to_thread(place.steps)):
        return []
    told = {json.loads(text)["data"].get("step") for text in await store.checkpoints(record.job.uid)}
    return await asyncio.to_thread(place.standing, [step for step in steps if step not in told])


@frozen
class _Place:
    """Where the checkpoints of a job lie that runs of ours write, and what they are called."""

    folder: Path
    masker: Masker
    uid: str
    #: The one that is over; a run that its backend began again may have written newer ones meanwhile, and tells them.
    attempt: int

    @classmethod
    def of(cls, record: JobRecord, folders: Folders, live: LiveJob) -> "_Place | None":
        """Of a bucket those in the job folder, by their paths: what came into the bucket its run told."""
        output = read_spec(record.spec).output
        if output is None:
            return None
        local = local_path(output)
        own = folders.with_backend(record.job.backend, record.job.job_id).path / "output" if local is None else local
        return cls(own / "checkpoints", live.masker, record.job.uid, live.handle.attempt)

    def steps(self) -> list[int]:
        """Of all folders that are named like one."""
        try:
            names = [path.name.removeprefix(_PREFIX) for path in self.folder.iterdir() if path.name.startswith(_PREFIX)]
        except FileNotFoundError:
            return []
        except OSError as e:  # the end is told all the same
            log.warning("checkpoints can't be looked at", folder=str(self.folder), error=str(e))
            return []
        return sorted(int(name) for name in names if name.isdecimal())

    def standing(self, steps: Iterable[int]) -> list[JobCheckpoint]:
        """Of these steps those that are whole, this job's, and of no newer attempt."""
        return [found for step in steps if (found := self._standing(step)) is not None]

    def _standing(self, step: int) -> JobCheckpoint | None:
        folder = self.folder / f"{_PREFIX}{step}"
        try:
            record = whole_record(folder)
            written = (folder / RECORD).stat().st_mtime
            if record is None or record.get("uid") != self.uid or _attempt(str(record["attempt"])) > self.attempt:
                return None
        except FileNotFoundError:
            return None
        except (OSError, KeyError, ValueError) as e:
            log.warning("a checkpoint can't be looked at", folder=str(folder), error=f"{type(e).__name__}: {e}")
            return None
        size = sum(int(size) for size, _ in record["files"].values())
        uri = self.masker.text(str(folder))
        return JobCheckpoint(step=step, uri=uri, bytes=size, extra={"at": stamp(written)})


def _attempt(pair: str) -> int:
    """The job's attempt that a run was: its restarts count on."""
    found = Pair.parse(pair)
    return found.attempt + found.restart
