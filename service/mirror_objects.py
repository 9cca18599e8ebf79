"""A job's log folder in an object store: objects can't be appended to, so whole ones are put again as they grow.

What they are put from is a folder of this machine, kept by `service/mirror_files.py`. The larger an object, the rarer
it is put: at most `_BYTES_A_SECOND` go out for each on average. Up to 32 MiB it is at most 10 s behind, a log of 1 GiB
four minutes; at the job's end all are put as they are. `.mirror.json` there tells whose they are; objects of another
job are renamed. obstore is imported at the first use.
"""

import json
import time
from pathlib import Path

from common.access import Auth
from common.objects import Bucket, ObjectMissing, split

NAMES = ("train.log", "metrics.jsonl", "events.jsonl")

_MARK = ".mirror.json"
_BYTES_A_SECOND = 4 << 20
_FORMAT = 1


class RemoteFolder:
    """One log folder; every method blocks and raises `ObjectError`."""

    def __init__(self, uri: str, auth: Auth, uid: str) -> None:
        self._uid = uid
        self._bucket = Bucket(uri, auth)
        self._prefix = split(uri.rstrip("/"))[2] + "/"
        self._claimed = False
        #: Of each object: bytes that were put, and when.
        self._put: dict[str, tuple[int, float]] = {}

    def keep(self, folder: Path, ended: bool) -> None:
        """Put what has grown and is due; at the job's end everything."""
        if not self._claimed:
            self._claim()
        for name in NAMES:
            path = folder / name
            if path.exists() and self._due(name, path.stat().st_size, ended):
                size = path.stat().st_size
                self._bucket.put(self._prefix + name, path)
                self._put[name] = (size, time.monotonic())

    def _due(self, name: str, size: int, ended: bool) -> bool:
        put, when = self._put.get(name, (-1, 0.0))
        if size == put:
            return False
        return ended or put < 0 or time.monotonic() - when >= size / _BYTES_A_SECOND

    def _claim(self) -> None:
        """Make way for this job's objects."""
        if self._owner() != self._uid:
            for name in NAMES:
                self._set_aside(name)
            mark = json.dumps({"format": _FORMAT, "uid": self._uid}).encode()
            self._bucket.put(self._prefix + _MARK, mark)
        self._claimed = True

    def _owner(self) -> str | None:
        try:
            return str(json.loads(self._bucket.get(self._prefix + _MARK))["uid"])
        except (ObjectMissing, ValueError, KeyError, TypeError):
            return None

    def _set_aside(self, name: str) -> None:
        """Rename an object that is somebody else's to `<name>.<n>`."""
        key, number = self._prefix + name, 1
        if not self._there(key):
            return
        while self._there(f"{key}.{number}"):
            number += 1
        self._bucket.move(key, f"{key}.{number}")

    def _there(self, key: str) -> bool:
        try:
            self._bucket.head(key)
        except ObjectMissing:
            return False
        return True
