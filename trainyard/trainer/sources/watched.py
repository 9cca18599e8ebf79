"""Long work in a thread of its own, so that a stop ends it at once, whatever the network does."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from attrs import define, field

T = TypeVar("T")

_LOOK_SECONDS = 0.2
_TELL_SECONDS = 10.0
_LEAVE_SECONDS = 0.5
_MIB = 1 << 20


class Abandoned(Exception):
    """The work was given up because the run was asked to stop."""


@define
class Progress:
    """What the working thread says of itself, and hears."""

    what: str
    total: int | None = None
    done: int = 0
    notes: list[str] = field(factory=list)
    stop: threading.Event = field(factory=threading.Event)
    _lock: threading.Lock = field(factory=threading.Lock)

    def add(self, count: int) -> None:
        """So many bytes more. Raises `Abandoned` when the work is to be given up."""
        with self._lock:
            self.done += count
        self.go_on()

    def go_on(self) -> None:
        """Raises `Abandoned` when the work is to be given up."""
        if self.stop.is_set():
            raise Abandoned(self.what)

    def wait(self, seconds: float) -> None:
        """Sleep, unless the work is to be given up."""
        if self.stop.wait(seconds):
            raise Abandoned(self.what)

    def __str__(self) -> str:
        if not self.done:
            return f"{self.what}: under way"
        of = f" of {self.total / _MIB:,.1f}" if self.total else ""
        return f"{self.what}: {self.done / _MIB:,.1f}{of} MiB"


def watched(
    work: Callable[[Progress], T],
    what: str,
    check: Callable[[], None],
    say: Callable[[str], None],
    every: float = _TELL_SECONDS,
) -> T:
    """The result of `work`, done in a thread; meanwhile `check` is called often and `say` every few seconds.

    What `check` raises comes out of here: then the thread is told to leave, and if it does not (a read that hangs), it
    is left behind, holding its locks until the process ends.
    """
    progress = Progress(what)
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(progress))
        except BaseException as e:  # told in the thread that waits
            errors.append(e)

    check()
    thread = threading.Thread(target=run, name="sources", daemon=True)
    thread.start()
    told = time.monotonic()
    try:
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            check()
            if time.monotonic() - told >= every and thread.is_alive():
                told = time.monotonic()
                say(str(progress))
    except BaseException:
        progress.stop.set()
        thread.join(_LEAVE_SECONDS)
        raise
    for note in progress.notes:
        say(note)
    if errors:
        raise errors[0]
    return results[0]
