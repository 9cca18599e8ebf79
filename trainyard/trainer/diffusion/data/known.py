"""What was found out about files, kept between jobs: one line a file, valid while its size and time are the same.

    <folder>/<key of the pictures' folder>.lock     held while a process looks at files
    <folder>/<key of the pictures' folder>.jsonl    name, size, mtime in ns, sha256, width, height, frames, ""

Of a file with a problem nothing is kept: another version of what reads it may read it.

Lines are appended as files are read, so that a killed job has not looked in vain; of two lines of one file the later
counts, and a line that was cut off counts for nothing.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import orjson
from attrs import astuple, frozen

from common.folder import write_whole
from trainyard.trainer.diffusion.alone import alone
from trainyard.trainer.diffusion.data.images import BadImage, look

_KEPT_AT_ONCE = 256
_TOGETHER = 200
_T = TypeVar("_T")
#: A file that was written so shortly before might be written again in the same tick of the clock.
_TOO_YOUNG_NS = 2_000_000_000


@frozen
class Facts:
    """What is known of one file."""

    bytes: int
    mtime_ns: int
    sha256: str = ""
    #: Upright, in pixels.
    width: int = 0
    height: int = 0
    frames: int = 1
    #: Why it can't be trained on; "" where it can.
    problem: str = ""

    @property
    def size(self) -> tuple[int, int]:
        """Upright width and height in pixels."""
        return self.width, self.height


@frozen
class Known:
    """The facts of the pictures of one folder."""

    folder: Path
    #: None: nothing is kept.
    file: Path | None

    @classmethod
    def of(cls, folder: Path, cache: Path | None) -> "Known":
        """Of the pictures in `folder`, kept in the folder `cache`."""
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
        return cls(folder, None if cache is None else cache / f"{key}.jsonl")

    def facts(self, names: Iterable[str], check: Callable[[], None], workers: int) -> dict[str, Facts]:
        """The facts of each file, in order; only files that are new or were changed are read.

        Of several processes that ask at once one reads, the others wait for it and find what it kept.
        """
        with alone(None if self.file is None else self.file.with_suffix(".lock"), check):
            return self._facts(list(names), check, workers)

    def _facts(self, names: list[str], check: Callable[[], None], workers: int) -> dict[str, Facts]:
        kept, fresh = self._kept(), list[str]()
        with ThreadPoolExecutor(workers) as pool:
            for part, stats in in_parts(pool, names, lambda part: [self._stat(name) for name in part]):
                fresh += [n for n, stat in zip(part, stats, strict=True) if n not in kept or not _same(kept[n], stat)]
                check()
            for at in range(0, len(fresh), _KEPT_AT_ONCE):
                part = fresh[at : at + _KEPT_AT_ONCE]
                read = {}
                for name, facts in zip(part, pool.map(self._read, part), strict=True):
                    read[name] = facts
                    check()
                self._keep(read)
                kept |= read
        return {name: kept[name] for name in names}

    def _stat(self, name: str) -> os.stat_result | None:
        try:
            return (self.folder / name).stat()
        except OSError:
            return None

    def _read(self, name: str) -> Facts:
        path, before = self.folder / name, self._stat(name)
        if before is None:
            return Facts(0, 0, problem="is gone, or a link that leads nowhere")
        at = before.st_size, before.st_mtime_ns
        try:
            found = look(path)
        except BadImage as e:
            return Facts(*at, problem=str(e))
        except OSError as e:
            return Facts(0, 0, problem=f"can't be read: {e.strerror or e}")
        return Facts(*at, found.sha256, *found.size, found.frames)

    def _kept(self) -> dict[str, Facts]:
        if self.file is None:
            return {}
        try:
            lines = self.file.read_bytes().split(b"\n")
        except OSError:
            return {}
        found: dict[str, Facts] = {}
        for line in lines:
            try:
                name, *facts = orjson.loads(line)
                found[name] = Facts(*facts)
            except (ValueError, TypeError):
                continue
        if len(lines) > 4 * len(found) + 1_000:
            write_whole(self.file, b"\n".join(orjson.dumps([name, *astuple(f)]) for name, f in found.items()) + b"\n")
        return {name: facts for name, facts in found.items() if not facts.problem}

    def _keep(self, read: Mapping[str, Facts]) -> None:
        """Append what was read; begun on a line of its own, whatever was cut off before."""
        if self.file is None:
            return
        newest = time.time_ns() - _TOO_YOUNG_NS
        sure = {name: f for name, f in read.items() if not f.problem and f.mtime_ns < newest}
        lines = [orjson.dumps([name, *astuple(f)]) for name, f in sure.items()]
        if lines:
            with self.file.open("ab", buffering=0) as file:
                file.write(b"\n" + b"\n".join(lines) + b"\n")


def in_parts(
    pool: ThreadPoolExecutor, names: Sequence[str], work: Callable[[Sequence[str]], _T]
) -> Iterator[tuple[Sequence[str], _T]]:
    """What threads make of many names, some at once, in order: file systems of other machines answer slowly."""
    parts = [names[at : at + _TOGETHER] for at in range(0, len(names), _TOGETHER)]
    return zip(parts, pool.map(work, parts), strict=True)


def _same(facts: Facts, stat: os.stat_result | None) -> bool:
    return stat is not None and (stat.st_size, stat.st_mtime_ns) == (facts.bytes, facts.mtime_ns)
