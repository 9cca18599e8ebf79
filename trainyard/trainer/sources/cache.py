"""Downloads kept for every job of this machine, by what they contain.

    <cache>/files/<key>/   lock         held while a job downloads into it, and shared while jobs read from it
                           part/        what has come so far; `<name>.trainyard-part` is a file under way
                           about.json   what it is: URI, and of each file size, version and sha256
                           content/     the files, whole

The key is made of the URI and of every file's size and version, so a changed source is another entry, and the
beginning of a file is gone on with only where it is a beginning of that very file. Where the disk is full, entries that
no job uses make way, the longest unused first.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from common.folder import FORMAT, write_whole
from trainyard.trainer.checkpoints import fresh
from trainyard.trainer.failures import DiskFull
from trainyard.trainer.sources.download import download
from trainyard.trainer.sources.offer import Offer
from trainyard.trainer.sources.watched import Progress

_LOCK_SECONDS = 0.2
_SPARE_BYTES = 64 << 20
#: Locks of what this process reads; the system frees them when it ends.
_in_use: dict[Path, int] = {}


@frozen
class Cache:
    """The entries under one folder."""

    folder: Path

    def take(self, offer: Offer, progress: Progress) -> Path:
        """The whole content of an offer, downloaded unless it is here: a file, or a folder. Others wait meanwhile."""

        def fill(entry: Path) -> None:
            part = entry / "part"
            part.mkdir(exist_ok=True)
            progress.total = offer.size
            self._check_room(offer, part)
            files = download(offer.items, part, progress)
            _publish(entry, offer.uri, [(f.name, f.size, f.version, f.sha256) for f in files])

        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = self._kept(self.folder / "files" / offer.key, fill, progress)
        return content if offer.folder else content / offer.items[0].name

    def made(self, source: Path, fill: Callable[[Path], None], progress: Progress) -> Path:
        """The folder that `fill` makes of a file of this cache, made once; it is given an empty folder."""
        origin = source.parents[1].name if source.is_relative_to(self.folder / "files") else str(source)

        def fill_entry(entry: Path) -> None:
            fresh(entry / "part")
            fill(entry / "part")
            found = [p for p in (entry / "part").rglob("*") if p.is_file()]
            told = [(p.relative_to(entry / "part").as_posix(), p.stat().st_size, None, None) for p in found]
            _publish(entry, f"made of {source.name}", told)

        key = hashlib.sha256(f"made of {origin}".encode()).hexdigest()[:32]
        return self._kept(self.folder / "files" / key, fill_entry, progress)

    def _kept(self, entry: Path, fill: Callable[[Path], None], progress: Progress) -> Path:
        """The content of an entry, made by `fill` where it is not whole; it stays while this process lives."""
        if not (entry in _in_use and _whole(entry)):
            if entry in _in_use:  # somebody removed it: our own lock must not keep us out
                os.close(_in_use.pop(entry))
            with self._locked(entry, progress) as lock:
                if not _whole(entry):
                    fill(entry)
                fcntl.flock(lock, fcntl.LOCK_SH)
                _in_use[entry] = os.dup(lock)
        os.utime(entry / "about.json")
        return entry / "content"

    @contextmanager
    def _locked(self, entry: Path, progress: Progress) -> Iterator[int]:
        """The entry's lock: shared where the content is there, else for this process alone."""
        while True:
            lock = _opened(entry)
            try:
                while not _try(lock, fcntl.LOCK_SH if (shared := _whole(entry)) else fcntl.LOCK_EX):
                    progress.wait(_LOCK_SECONDS)
                if _is_of(lock, entry) and shared == _whole(entry):
                    yield lock
                    return
            finally:
                os.close(lock)

    def _check_room(self, offer: Offer, part: Path) -> None:
        """Raises `DiskFull` when what is still to come does not fit, even without what no job uses."""
        if offer.size is None:
            return
        here = sum(p.stat().st_size for p in part.rglob("*") if p.is_file())
        needed = max(0, offer.size - here) + _SPARE_BYTES
        for entry in self._by_use():
            if shutil.disk_usage(part).free >= needed:
                return
            if entry != part.parent and entry not in _in_use:
                _remove_unused(entry)
        free = shutil.disk_usage(part).free
        if free < needed:
            raise DiskFull(f"{self.folder}: {offer.uri} needs {needed:,} bytes, {free:,} are free; none was begun")

    def _by_use(self) -> list[Path]:
        """The entries, the longest unused first."""

        def used(entry: Path) -> float:
            about = entry / "about.json"
            return (about if about.exists() else entry).stat().st_mtime

        return sorted((self.folder / "files").iterdir(), key=used)


def _publish(entry: Path, uri: str, files: Sequence[tuple[str, int, str | None, str | None]]) -> None:
    """The content stands, and what it is is noted after."""
    shutil.rmtree(entry / "content", ignore_errors=True)
    (entry / "part").rename(entry / "content")
    about = {"format": FORMAT, "uri": uri, "at": time.time(), "files": files}
    write_whole(entry / "about.json", json.dumps(about).encode())


def _whole(entry: Path) -> bool:
    """Whether the content is there with the sizes that it had."""
    try:
        files = json.loads((entry / "about.json").read_bytes())["files"]
        return all((entry / "content" / name).stat().st_size == size for name, size, _, _ in files)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _try(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(entry: Path) -> int:
    """The lock's file; the entry may make way between the two calls."""
    while True:
        entry.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(entry / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue


def _is_of(lock: int, entry: Path) -> bool:
    """Whether the lock is still the entry's: an entry may have made way while it was waited for."""
    try:
        return os.fstat(lock).st_ino == (entry / "lock").stat().st_ino
    except FileNotFoundError:
        return False


def _remove_unused(entry: Path) -> None:
    """Remove an entry, unless a job uses it."""
    try:
        lock = os.open(entry / "lock", os.O_RDWR)
    except OSError:
        return
    try:
        if _try(lock, fcntl.LOCK_EX):
            (entry / "about.json").unlink(missing_ok=True)
            shutil.rmtree(entry, ignore_errors=True)
    finally:
        os.close(lock)
