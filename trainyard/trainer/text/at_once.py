"""How many rows are computed at once, and what happens when memory does not take so many."""

import gc
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from attrs import define, field

from trainyard.trainer.again import handed_on
from trainyard.trainer.failures import BeginAgain, OutOfMemory, explained, first_line
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.run import Run
from trainyard.trainer.text.state import Position

Found = TypeVar("Found")
_HELP = (
    "tuning_parameters.gradient_checkpointing, a smaller max_sequence_length, optimizer adamw_8bit or adafactor, or "
    "customization.method lora or qlora need less"
)


@define
class AtOnce:
    """So many rows at once; halved when memory runs out, but only once in a job: what then fails asks for too much."""

    #: The setting that it is, or what it is for.
    name: str
    rows: int
    report: Reporter
    #: Each time that it was halved, as JSON.
    halved: list[dict[str, Any]]
    #: What was changed while the job went on: handed on too where all processes begin again.
    changes: list[dict[str, Any]] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        """What was halved before the run was stopped stays so."""
        self.rows = min([self.rows, *(h["to"] for h in self.halved if h["name"] == self.name)])

    def attempt(self, most: int, work: Callable[[int], Found], undo: Callable[[], None]) -> Found:
        """`work` with so many rows at once, of `most` that there are; `undo` makes a failed one as if it never began.

        Raises `OutOfMemory` where it does not fit after all.
        """
        rows = min(self.rows, most)
        try:
            return work(rows)
        except Exception as e:
            why = self._short_of(e, rows)
        # Outside of `except`: the frames of the failed work, and the tensors in them, are gone.
        undo()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.halved.append(self._half(rows))
        self.rows = rows // 2
        self.report.log(
            f"out of memory after step {self.report.step} with {self.name} {rows}: it is {self.rows} from here on, and "
            f"what a step learns from stays the same ({why})",
            level="warning",
        )
        return self.attempt(most, work, undo)

    def together(self, most: int, work: Callable[[int], Found], step: int) -> Found:
        """As `attempt`, where the other processes wait for this one in the middle of step `step`.

        Raises `BeginAgain` where half as many rows are to be tried, `OutOfMemory` where that was done already.
        """
        rows = min(self.rows, most)
        try:
            return work(rows)
        except Exception as e:
            why = self._short_of(e, rows)
            found = self._half(rows) | {"step": step}
            handed = {"halved": [*self.halved, found], "changes": self.changes, "why": why}
            raise BeginAgain(f"out of memory with {self.name} {rows}: {why}; all begin again", handed) from e

    def begun_again(self, handed: Mapping[str, Any], at: int) -> None:
        """Say what one of the processes before these came to, where it was for this."""
        if handed and (found := handed["halved"][-1])["name"] == self.name:
            self.report.log(
                f"out of memory after step {found['step']} with {self.name} {found['from']}: it is {found['to']} from "
                f"here on, and what a step learns from stays the same; all processes began again from step {at} "
                f"({handed['why']})",
                level="warning",
            )

    def _short_of(self, error: Exception, rows: int) -> str:
        """Why half as many are to be tried. Raises what is no lack of memory, and `OutOfMemory` the second time."""
        if isinstance(error, BeginAgain) or not isinstance(explained(error), OutOfMemory):
            raise error
        why = first_line(error)
        if rows == 1 or any(h["name"] == self.name for h in self.halved):
            raise OutOfMemory(f"out of memory with {self._words(rows)}: {why}; {_HELP}") from error
        return why

    def _half(self, rows: int) -> dict[str, Any]:
        return {"name": self.name, "step": self.report.step, "from": rows, "to": rows // 2}

    def _words(self, rows: int) -> str:
        before = [h["from"] for h in self.halved if h["name"] == self.name]
        return f"{self.name} {rows}" + (f", halved from {before[0]} already" if before else "")


def both(run: Run, position: Position) -> tuple[AtOnce, AtOnce]:
    """The micro batch and the rows of an evaluation, as they were halved until now, also by processes before these."""
    handed = handed_on(run.claim)
    position.halved = handed.get("halved", position.halved)

    def made(name: str) -> AtOnce:
        found = AtOnce(name, position.micro, run.report, position.halved, position.changes)
        found.begun_again(handed, position.step)
        return found

    micro = made("micro_batch_size")
    position.micro = micro.rows
    return micro, made("rows evaluated at once")
