"""The folder of a job's results in an object store: whose it is, which checkpoints are whole, and bringing one here."""

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from common.access import Auth
from common.folder import FORMAT
from common.objects import Bucket, ObjectError, ObjectMissing, Stored, split
from trainyard.trainer.checkpoints import RECORD
from trainyard.trainer.failures import ConfigError, RunEnded, SourceRefused
from trainyard.trainer.sources.download import download
from trainyard.trainer.sources.objects import reader
from trainyard.trainer.sources.offer import Broken, Changed, Item, Lost
from trainyard.trainer.sources.watched import Progress, watched

AT = "artifacts.output_uri"
_STEP = re.compile(r"checkpoints/step-(\d+)/(.+)")
_PROBE = "checkpoints/.trainyard-was-here"
log = logging.getLogger("trainyard.trainer")


@frozen
class Remote:
    """`uri` and what lies below it, as a job sees and writes it."""

    uri: str
    bucket: Bucket
    prefix: str

    @classmethod
    def open(cls, uri: str, auth: Auth) -> "Remote":
        """Raises `SourceRefused` when the credentials are no good."""
        bare = uri.rstrip("/")
        try:
            return cls(bare, Bucket(bare, auth), split(bare)[2] + "/")
        except ObjectError as e:
            raise refused(e) from e

    def key(self, name: str) -> str:
        """The key of a file, by its name below the folder."""
        return self.prefix + name

    def claim(self, uid: str, check: Callable[[], None], say: Callable[[str], None]) -> list[int]:
        """The steps whose checkpoints are whole, the newest first.

        Raises `ConfigError` when the folder holds the work of another job, `SourceRefused` when it can't be read or
        written: it is tried before anything is trained.
        """
        try:
            return watched(lambda _: self._claimed(uid), f"looking at {self.uri}", check, say)
        except ObjectError as e:
            raise refused(e) from e

    def _claimed(self, uid: str) -> list[int]:
        found = {stored.key.removeprefix(self.prefix): stored for stored in self.bucket.list(self.prefix)}
        records = {name: self._record(name) for name in found if name == "manifest.json" or name.endswith(f"/{RECORD}")}
        for name, record in records.items():
            if record.get("uid", uid) != uid:
                raise ConfigError(
                    f"{AT}: {self.uri} holds the work of another job ({name} of {record.get('uid')}); "
                    "give a folder of its own"
                )
        self.bucket.put(self.key(_PROBE), b"")
        try:
            self.bucket.delete([self.key(_PROBE)])
        except ObjectError as e:
            log.warning("%s: old checkpoints will stay there: %s", self.uri, e)
        steps = (_step(name) for name, record in records.items() if _complete(name, record, found))
        return sorted((step for step in steps if step is not None), reverse=True)

    def _record(self, name: str) -> Mapping[str, Any]:
        try:
            record = json.loads(self.bucket.get(self.key(name)))
        except (ObjectMissing, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def bring(self, step: int, folder: Path, check: Callable[[], None], say: Callable[[str], None]) -> None:
        """Download the checkpoint of `step` into `folder`. Raises `SourceRefused`, `DiskFull`."""
        where = f"{self.uri}/checkpoints/step-{step}"
        prefix = self.key(f"checkpoints/step-{step}/")

        def work(progress: Progress) -> None:
            stored = self.bucket.list(prefix)
            progress.total = sum(s.size for s in stored)
            download(tuple(_item(self.bucket, s, prefix) for s in stored), folder, progress)

        try:
            watched(work, where, check, say)
        except ObjectError as e:
            raise refused(e) from e
        except (Lost, Changed, Broken) as e:
            raise SourceRefused(f"{AT}: {where} can't be read: {e}") from e

    def present(self, folder: str) -> list[str]:
        """The keys below a folder."""
        return [stored.key for stored in self.bucket.list(self.key(f"{folder}/"))]


def refused(error: ObjectError, kept: Path | None = None) -> RunEnded:
    """The end of a run whose results can't be stored; what there is is kept here."""
    return SourceRefused(f"{AT}: {error}" + (f"; nothing is lost: all of it is in {kept}" if kept else ""))


def _step(name: str) -> int | None:
    found = _STEP.fullmatch(name)
    return int(found[1]) if found else None


def _complete(name: str, record: Mapping[str, Any], found: Mapping[str, Stored]) -> bool:
    """Whether every file that a checkpoint's record names is there with its size."""
    files = record.get("files")
    if _step(name) is None or not isinstance(files, dict) or record.get("format") != FORMAT:
        return False
    folder = name.removesuffix(RECORD)
    return all(folder + file in found and found[folder + file].size == size for file, (size, _) in files.items())


def _item(bucket: Bucket, stored: Stored, prefix: str) -> Item:
    return Item(
        name=stored.key.removeprefix(prefix),
        size=stored.size,
        version=stored.version,
        read=reader(bucket, stored),
    )
