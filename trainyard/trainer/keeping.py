"""When a checkpoint is written, told, answered and removed; what is in it is the loop's."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from attrs import frozen

from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.finishing import Sums
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run

T = TypeVar("T")


def _nothing(_: object) -> None:
    return None


@frozen
class Keeping:
    """The checkpoints of a run as its loop writes them: training waits only for what is of the very step."""

    run: Run
    checkpoints: Checkpoints
    world: World
    #: How many are kept; None: all.
    limit: int | None
    #: Called by the first process with each checkpoint that stands on this machine.
    stood: Callable[[Checkpoint], None] = _nothing

    def save(
        self,
        step: int,
        kind: str,
        *,
        state: Callable[[], T],
        needed: int,
        write: Callable[[Path, Sums, T], Mapping[str, Any]],
        later: Callable[[Path], object] = _nothing,
        best: int = 0,
    ) -> None:
        """Write a checkpoint, tell it, answer who asked for one, and remove the oldest, but never that of step `best`.

        Nothing is written before the first step, nor twice for one step; one that turns out the best is told again.
        Every process calls it; `state` is asked in each, and the first writes: `write` fills a folder and returns the
        record's own fields, which takes at most `needed` bytes; `later` adds what does not change. Training waits until
        `write` is done; the rest is done beside it, until `agree` or `finish` tells that the checkpoint stands. One of
        kind `stop` is finished here.
        """
        control = self.run.control
        if step == 0:
            return
        self.checkpoints.finishing.settle()
        if control.saved_step != step:
            found = state()
            if self.world.first:
                control.begun(step)
                self.checkpoints.begin(
                    step,
                    needed,
                    lambda folder, sums: write(folder, sums, found),
                    later=later,
                    then=lambda done: self._stands(done, kind, best),
                    at_once=kind == "stop",
                )
            else:
                control.saved(step)
        else:
            if self.world.first and kind == "best" and (done := self.checkpoints.of(step)) is not None:
                self._tell(done, kind)
                self.checkpoints.prune(self.limit, best)
            control.saved(step)
        if kind == "stop":
            self.finish()

    def agree(self) -> tuple[bool, bool]:
        """Tell a checkpoint that stands by now, or raise what went wrong with it; then as `Control.agree`."""
        self.checkpoints.look()
        return self.run.control.agree(self.world)

    def check(self) -> None:
        """As `agree`, in the middle of long work that every process does in as many parts. Raises `Stopped`."""
        if self.agree()[0]:
            raise self.run.control.stopped()

    def finish(self) -> None:
        """Wait until what was saved stands. Every process calls it."""
        self.checkpoints.finishing.settle()
        self.world.barrier()

    def newest(self) -> Path | None:
        """The newest checkpoint, once it stands; the first process calls it."""
        self.checkpoints.finishing.settle()
        found = self.checkpoints.in_size()
        return None if found is None else found.path

    def _stands(self, done: Checkpoint, kind: str, best: int) -> None:
        self._tell(done, kind)
        self.checkpoints.prune(self.limit, best)
        self.run.control.stands(done.step)
        self.stood(done)

    def _tell(self, done: Checkpoint, kind: str) -> None:
        """At once, or where it is copied as soon as it is there: who hears of a checkpoint may go and get it."""
        more: dict[str, Any] = {}
        if (asked := self.run.control.stop_asked) is not None:
            more["seconds"] = round(time.monotonic() - asked, 3)

        def tell(uri: str, kept: Sequence[int] | None) -> None:
            self.run.report.event("checkpoint", done.told(uri, kind, kept) | more)

        if self.checkpoints.copies is None:
            tell(str(done.path), None)
        else:
            self.checkpoints.copies.when_there(done.step, tell)
