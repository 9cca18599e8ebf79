"""Files of an offer brought to disk: gone on with where they were left, again after a lost connection, checked."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Protocol

from attrs import frozen

from trainyard.trainer.sources.offer import Broken, Item, Lost
from trainyard.trainer.sources.watched import Abandoned, Progress

#: What a file under way has behind its name: not `.part`, which others may call their files.
PART = ".trainyard-part"

_AT_ONCE = 4
_TRIES = 7
_FIRST_WAIT, _LAST_WAIT = 0.5, 10.0
_BLOCK = 1 << 20


@frozen
class Downloaded:
    """A whole file."""

    name: str
    size: int
    version: str | None
    sha256: str


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


def download(items: tuple[Item, ...], folder: Path, progress: Progress) -> list[Downloaded]:
    """Every item as a whole file below `folder`, a few at once.

    Raises `Lost` when the source stays away, `Changed`, `Broken`, or what an item's `read` raises.
    """
    if len(items) == 1:
        return [_one(items[0], folder, progress)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sources") as pool:
        under_way = [pool.submit(_one, item, folder, progress) for item in items]
        first: BaseException | None = None
        for future in under_way:
            error = future.exception()
            if error is not None and (first is None or isinstance(first, Abandoned)):
                first = error
                progress.stop.set()
    if first is not None:
        raise first
    return [future.result() for future in under_way]


def _one(item: Item, folder: Path, progress: Progress) -> Downloaded:
    target = folder / item.name
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(target.name + PART)
    if item.version is None:
        aside.unlink(missing_ok=True)
    if target.exists():  # whole since an earlier run
        target.rename(aside)
    digests = _filled(item, aside, progress)
    aside.rename(target)
    return Downloaded(item.name, target.stat().st_size, item.version, digests["sha256"])


def _filled(item: Item, aside: Path, progress: Progress) -> dict[str, str]:
    """Bring a file to its end and check it; its digests. What was resumed and is wrong is fetched anew, once."""
    resumed = aside.exists() and aside.stat().st_size > 0
    while True:
        with aside.open("a+b") as file:
            digests = _fill(item, file, progress)
        if item.digest is None or digests[item.digest[0]] == item.digest[1]:
            return digests
        if not resumed and not item.sure:
            progress.notes.append(f"{item.name}: its ETag is no MD5 (an object encrypted by a key?); its size is right")
            return digests
        aside.unlink()
        if not resumed:
            raise Broken(f"{item.name}: {item.digest[0]} is {digests[item.digest[0]]}, not {item.digest[1]}")
        resumed = False


def _fill(item: Item, file: BinaryIO, progress: Progress) -> dict[str, str]:
    """Read until the end, again after each loss; `Lost` when nothing more came in several tries."""
    hashes: dict[str, _Hash] = {"sha256": hashlib.sha256()}
    if item.digest is not None:
        hashes.setdefault(item.digest[0], hashlib.new(item.digest[0], usedforsecurity=False))
    file.seek(0)
    while block := file.read(_BLOCK):
        _take(block, hashes, progress)
    if item.size is not None and file.tell() > item.size:
        file.truncate(0)
        raise Lost(f"{item.name} had more bytes than the source has")
    failures = 0
    while True:
        before = file.tell()
        try:
            _append(item, file, hashes, progress)
            return {name: found.hexdigest() for name, found in hashes.items()}
        except Lost:
            failures = 1 if file.tell() > before else failures + 1
            if failures == _TRIES:
                raise
            file.flush()
            progress.wait(min(_FIRST_WAIT * 2 ** (failures - 1), _LAST_WAIT))


def _append(item: Item, file: BinaryIO, hashes: dict[str, _Hash], progress: Progress) -> None:
    """What is still to come. Raises `Lost` when it ends early, `Broken` when more comes than there is."""
    if item.size is not None and file.tell() == item.size:
        return
    for block in item.read(file.tell()):
        if item.size is not None and file.tell() + len(block) > item.size:
            raise Broken(f"{item.name}: more than its {item.size:,} bytes came")
        file.write(block)
        _take(block, hashes, progress)
    if item.size is not None and file.tell() < item.size:
        raise Lost(f"{item.name} ended after {file.tell():,} of {item.size:,} bytes")


def _take(block: bytes, hashes: dict[str, _Hash], progress: Progress) -> None:
    for found in hashes.values():
        found.update(block)
    progress.add(len(block))
