"""Large files written past the page cache, several blocks at once, and summed up on the way.

A checkpoint is read again after a crash or never; in the page cache it would only push out data and model, and its way
to the disk would begin when somebody waits for it.
"""

import errno
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

_BLOCK = 4 << 20
_AT_ONCE = 4
#: What every disk of today can write alone, in bytes.
_ALIGNED = 4096


class DirectFile:
    """A file to write from its beginning to its end, with `sha256` of what was written; `close` waits for all of it.

    Where the file system has no way past its cache (a tmpfs), it goes through it. Nothing is flushed. Raises what the
    disk says, later than for a plain file: with a following block, or with `close`.
    """

    def __init__(self, path: Path) -> None:
        self.sha256 = hashlib.sha256()
        self._descriptor = _opened(path)
        self._blocks: list[mmap.mmap] = []
        self._under_way: list[tuple[Future[Any], ...]] = []
        self._filled = self._written = 0
        self._writers = ThreadPoolExecutor(_AT_ONCE, "checkpoint")
        self._hasher = ThreadPoolExecutor(1, "sum")

    def write(self, data: Any) -> int:
        """Copy `data`; it may change afterwards."""
        view = memoryview(data).cast("B")
        taken = 0
        while taken < len(view):
            block = self._block()
            part = view[taken : taken + _BLOCK - self._filled]
            block[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            taken += len(part)
            if self._filled == _BLOCK:
                self._hand_over()
        return taken

    def flush(self) -> None:
        """Nothing: what is written is on its way."""

    def close(self) -> None:
        """Write the rest, and wait for all of it."""
        try:
            if self._filled:
                self._hand_over()
            for futures in self._under_way:
                for future in futures:
                    future.result()
            os.ftruncate(self._descriptor, self._written)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Leave the file as it is; calm where it is closed."""
        self._writers.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _block(self) -> mmap.mmap:
        """The block to fill, once what it held before is written."""
        if self._filled:
            return self._blocks[-1]
        if len(self._blocks) < _AT_ONCE + 1:
            self._blocks.append(mmap.mmap(-1, _BLOCK))
            return self._blocks[-1]
        wait(oldest := self._under_way.pop(0))
        for future in oldest:
            future.result()
        self._blocks.append(self._blocks.pop(0))
        return self._blocks[-1]

    def _hand_over(self) -> None:
        block, size, offset = self._blocks[-1], self._filled, self._written
        padded = -(-size // _ALIGNED) * _ALIGNED
        hashed = self._hasher.submit(lambda: self.sha256.update(memoryview(block)[:size]))
        wrote = self._writers.submit(_write, self._descriptor, memoryview(block)[:padded], offset)
        self._under_way.append((hashed, wrote))
        self._filled, self._written = 0, offset + size


def _opened(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    return os.open(path, flags, 0o666)


def _write(descriptor: int, block: memoryview, offset: int) -> None:
    while block:
        count = os.pwrite(descriptor, block, offset)
        block, offset = block[count:], offset + count
