"""The sums of files of weights, kept between jobs: one line a file, valid while its size and time are the same.

    <folder>/weights.lock     held while a process reads a file
    <folder>/weights.jsonl    path, size, mtime and ctime in ns, inode, sha256

A line that was cut off counts for nothing, of two lines of one file the later counts. A process that wants the sum of a
file which another one reads waits for that.
"""

import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import orjson
from attrs import field, frozen

from trainyard.trainer.diffusion.alone import alone

_BLOCK = 16 << 20
#: A file that was written so shortly before might be written again in the same tick of the clock.
_TOO_YOUNG_NS = 2_000_000_000

#: Real path, size, in ns the times of the last change and of that of the inode, which nobody can set; the inode.
_State = tuple[str, int, int, int, int]


@frozen
class Sums:
    """SHA-256 of files, each read once while it is as it was; `check` is called between blocks and may raise."""

    #: Where they are kept; None: in this process alone.
    folder: Path | None = None
    check: Callable[[], None] = field(default=lambda: None, eq=False)
    _known: dict[_State, str] = field(factory=dict, eq=False, repr=False, init=False)

    def of(self, path: Path) -> str:
        """Hexadecimal; the hub's cache has it in the file's own name. Raises what `check` raises, and `ConfigError`."""
        real = path.resolve()
        if real.parent.name == "blobs" and len(real.name) == 64:
            return real.name
        state = _state(real)
        if state not in self._known:
            with alone(None if self.folder is None else self.folder / "weights.lock", self.check):
                self._known.update(self._kept())
                if state not in self._known:
                    self._known[state] = self._read(real)
                    self._keep(state, self._known[state])
        return self._known[state]

    def _read(self, path: Path) -> str:
        found = sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                self.check()
                found.update(block)
        return found.hexdigest()

    @property
    def _file(self) -> Path | None:
        return None if self.folder is None else self.folder / "weights.jsonl"

    def _kept(self) -> dict[_State, str]:
        found: dict[_State, str] = {}
        try:
            lines = [] if self._file is None else self._file.read_bytes().split(b"\n")
        except OSError:
            return found
        for line in lines:
            try:
                path, size, changed, altered, inode, digest = orjson.loads(line)
                found[path, size, changed, altered, inode] = digest
            except (ValueError, TypeError):
                continue
        return found

    def _keep(self, state: _State, digest: str) -> None:
        """Begun on a line of its own, whatever was cut off before; not of a file that changed while it was read."""
        if self._file is None or _state(Path(state[0])) != state or state[2] > time.time_ns() - _TOO_YOUNG_NS:
            return
        with self._file.open("ab", buffering=0) as file:
            file.write(b"\n" + orjson.dumps([*state, digest]) + b"\n")


def _state(path: Path) -> _State:
    stat = path.stat()
    return str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
