"""Making what a cache lacks, in batches: read beside the encoder, kept beside it, shared with whoever does the same."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from trainyard.trainer.diffusion.cache.shelf import Claims, Shelf, Tensors
from trainyard.trainer.failures import OutOfMemory, explained

T = TypeVar("T")

#: Files are read by so many at most: more would only hold decoded pictures.
_THREADS = 16
_AHEAD = 3
_WAIT_SECONDS = 0.1
_TELL_SECONDS = 10.0


@frozen
class Wanted(Generic[T]):
    """A thing whose tensors should lie on a shelf."""

    shelf: Shelf
    name: str
    thing: T


@frozen
class Made:
    """Tensors of a thing, and what is noted beside them."""

    tensors: Tensors
    notes: Mapping[str, str] = {}


@frozen(kw_only=True)
class Work(Generic[T]):
    """How things become tensors."""

    #: What it is called when it is told of, in the plural: `pictures`.
    what: str
    #: Read a thing; in a thread.
    load: Callable[[T], Any]
    #: What was loaded of a batch, encoded; alone in its device.
    encode: Callable[[Sequence[Any]], Sequence[Made]]
    #: Looked at between batches; may raise what ends the run.
    check: Callable[[], None]
    say: Callable[..., None]
    #: Threads that load.
    threads: int = 1


def fill(batches: Iterable[Sequence[Wanted[T]]], work: Work[T]) -> int:
    """Make and keep all of it, but for what others keep meanwhile; returns how many were made here.

    What another process has in the making is waited for, and made here when that process ends without it. Raises
    `DiskFull`, `OutOfMemory`, and what `load` and `check` raise; what was kept until then is whole and stays.
    """
    waiting = [list(batch) for batch in batches]
    progress = _Progress(work, sum(map(len, waiting)))
    with ExitStack() as stack:
        shelves = {w.shelf for batch in waiting for w in batch}
        claims = {shelf: stack.enter_context(shelf.making()) for shelf in shelves}
        while waiting:
            before = progress.made
            waiting = _Pass(work, claims, progress).over(waiting)
            if waiting and progress.made == before:
                time.sleep(_WAIT_SECONDS)
                work.check()
    return progress.made


@define
class _Progress:
    """How much is done, told every few seconds."""

    work: Work[Any]
    total: int
    made: int = 0
    done: int = 0
    _began: float = field(factory=time.monotonic)
    _told: float = field(factory=time.monotonic)

    def check_room(self, shelf: Shelf, name: str) -> None:
        """Say it, once, where the rest may not fit: what is still to come is taken to be like the first that was made.

        It is no more than a warning: sizes differ, and another job may need less by then.
        """
        if self.made or self.done + 1 >= self.total:
            return
        left = self.total - self.done - 1
        needed, free = left * shelf.path(name).stat().st_size, shutil.disk_usage(shelf.root).free
        if needed > free:
            self.work.say(
                f"{shelf.root}: {left:,} more {self.work.what} need about {needed:,} bytes, and {free:,} are free: "
                "the disk may be full before all is cached",
                level="warning",
            )

    def add(self, count: int, made: bool) -> None:
        self.done += count
        self.made += count * made
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS and self.done < self.total:
            self._told = now
            rate = self.made / (now - self._began)
            what = self.work.what
            caching = {"what": what, "done": self.done, "total": self.total, "per_second": round(rate, 2)}
            self.work.say(f"caching: {self.done:,} of {self.total:,} {what}, {rate:.1f} a second", caching=caching)


@define
class _Pass(Generic[T]):
    """Once over the batches: what another process makes at this moment is left for the next pass."""

    work: Work[T]
    claims: Mapping[Shelf, Claims]
    progress: _Progress
    _elsewhere: list[list[Wanted[T]]] = field(factory=list)

    def over(self, batches: Iterable[list[Wanted[T]]]) -> list[list[Wanted[T]]]:
        """What another process has in the making."""
        threads = min(self.work.threads, _THREADS)
        with ThreadPoolExecutor(threads, "cache") as readers, ThreadPoolExecutor(1, "cache") as writer:
            loading: deque[tuple[list[Wanted[T]], list[Future[Any]]]] = deque()
            writing: deque[tuple[list[Wanted[T]], Future[None]]] = deque()
            try:
                for ours in self._claimed(batches):
                    loading.append((ours, [readers.submit(self.work.load, w.thing) for w in ours]))
                    if len(loading) >= _AHEAD:
                        self._encode(*loading.popleft(), writer, writing)
                while loading:
                    self._encode(*loading.popleft(), writer, writing)
                while writing:
                    self._kept(*writing.popleft())
            finally:
                readers.shutdown(wait=False, cancel_futures=True)
                writer.shutdown(cancel_futures=True)
        return self._elsewhere

    def _claimed(self, batches: Iterable[list[Wanted[T]]]) -> Iterator[list[Wanted[T]]]:
        """Of each batch what is ours to make."""
        for batch in batches:
            self.work.check()
            ours: list[Wanted[T]] = []
            others: list[Wanted[T]] = []
            for w in batch:
                if not self.claims[w.shelf].take(w.name):
                    others.append(w)
                elif w.shelf.notes(w.name) is None:
                    ours.append(w)
                else:
                    self.claims[w.shelf].leave(w.name)
                    self.progress.add(1, made=False)
            if others:
                self._elsewhere.append(others)
            if ours:
                yield ours

    def _encode(
        self,
        ours: list[Wanted[T]],
        loaded: Sequence[Future[Any]],
        writer: ThreadPoolExecutor,
        writing: deque[tuple[list[Wanted[T]], Future[None]]],
    ) -> None:
        made = _halving(self.work.encode, [found.result() for found in loaded])
        writing.append((ours, writer.submit(_keep, ours, made)))
        while writing and (writing[0][1].done() or len(writing) > _AHEAD):
            self._kept(*writing.popleft())

    def _kept(self, ours: list[Wanted[T]], written: Future[None]) -> None:
        written.result()
        self.progress.check_room(ours[0].shelf, ours[0].name)
        for w in ours:
            self.claims[w.shelf].leave(w.name)
        self.progress.add(len(ours), made=True)


def _keep(ours: Sequence[Wanted[Any]], made: Sequence[Made]) -> None:
    for w, found in zip(ours, made, strict=True):
        w.shelf.write(w.name, found.tensors, found.notes)


def _halving(encode: Callable[[Sequence[Any]], Sequence[Made]], loaded: Sequence[Any]) -> list[Made]:
    """A batch that memory does not take is encoded in two."""
    try:
        return list(encode(loaded))
    except Exception as e:
        if len(loaded) == 1 or not isinstance(explained(e), OutOfMemory):
            raise
    half = len(loaded) // 2
    return _halving(encode, loaded[:half]) + _halving(encode, loaded[half:])
