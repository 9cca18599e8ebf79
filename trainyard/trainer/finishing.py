"""What a checkpoint needs when its files are written, sums and their way to the disk: beside the training."""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from trainyard.trainer.direct import DirectFile

_SIDE_BY_SIDE = 4
#: Bytes: between two of them a thread waits until another one, which may import a library, hands it the interpreter.
_BLOCK = 16 << 20
T = TypeVar("T")


class Finishing(Generic[T]):
    """One piece of work at a time in a thread; what follows from it is done by whoever looks, in its own thread."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._done: list[T] = []
        self._error: BaseException | None = None
        self._then: Callable[[T], None] = lambda _: None

    def begin(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        """Start `work` when the one before it is settled; `look` or `settle` call `then` with what it returns."""
        self.settle()
        self._then = then
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Settle what is done already; returns at once. Raises what the work raised."""
        if self._thread is not None and not self._thread.is_alive():
            self.settle()

    def settle(self) -> None:
        """Wait for the work, and do what follows. Raises what the work raised."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
        self._then(self._done.pop())

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._done.append(work())
        except BaseException as e:  # raised again by `settle`
            self._error = e


class Sums:
    """The sizes and sha256 of a folder's files, each flushed too: of one file while others are still written.

    Several threads may write files side by side.

    `at_once`: all of it is waited for, so that the way past the page cache is the shorter one; else the writing alone.
    """

    def __init__(self, folder: Path, *, at_once: bool = False) -> None:
        self._folder, self._at_once = folder, at_once
        self._pool = ThreadPoolExecutor(_SIDE_BY_SIDE, "sums")
        self._known: dict[Path, Future[str]] = {}
        self._flushed: list[Future[None]] = []

    def begin(self, path: Path) -> None:
        """This file is written."""
        self._known[path] = self._pool.submit(sha256, path)
        self._flushed.append(self._pool.submit(flush, path))

    @contextmanager
    def open(self, path: Path) -> Iterator[Any]:
        """A file to write; its sum is known as soon as it is written, where that is waited for."""
        if not self._at_once:
            with path.open("wb") as plain:
                yield plain
            return
        file, known = DirectFile(path), Future[str]()
        try:
            yield file
            file.close()
        finally:
            file.abandon()
        known.set_result(file.sha256.hexdigest())
        self._known[path] = known
        self._flushed.append(self._pool.submit(flush, path))

    def all(self) -> dict[str, list[Any]]:
        """Name, size and sum of every file, when all of them are on the disk."""
        try:
            paths = sorted(p for p in self._folder.rglob("*") if p.is_file())
            for path in paths:
                if path not in self._known:
                    self.begin(path)
            for flushed in self._flushed:
                flushed.result()
            found = {p.relative_to(self._folder).as_posix(): [p.stat().st_size, self._known[p].result()] for p in paths}
        finally:
            self.close()
        return found

    def close(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """`work` in a thread while the body runs; waited for at its end. Raises what either raised."""
    with ThreadPoolExecutor(1, "beside") as thread:
        done = thread.submit(work)
        yield
        done.result()


def flush(path: Path) -> None:
    """fsync a file or a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(folder: Path) -> None:
    """fsync a folder and everything in it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        flush(path)
    flush(folder)


def sha256(path: Path) -> str:
    """The file's digest, in hexadecimal."""
    digest, block = hashlib.sha256(), memoryview(bytearray(min(_BLOCK, path.stat().st_size)))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            digest.update(block[:count])
    return digest.hexdigest()
