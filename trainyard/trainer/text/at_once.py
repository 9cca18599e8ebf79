"""How many rows are computed at once, and what happens when memory does not take so many."""

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from attrs import define

from trainyard.trainer.failures import OutOfMemory, explained, first_line
from trainyard.trainer.reporting import Reporter

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
            if not isinstance(explained(e), OutOfMemory):
                raise
            why = first_line(e)
            if rows == 1 or any(h["name"] == self.name for h in self.halved):
                raise OutOfMemory(f"out of memory with {self._words(rows)}: {why}; {_HELP}") from e
        # Outside of `except`: the frames of the failed work, and the tensors in them, are gone.
        undo()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.rows = rows // 2
        self.halved.append({"name": self.name, "step": self.report.step, "from": rows, "to": self.rows})
        self.report.log(
            f"out of memory after step {self.report.step} with {self.name} {rows}: it is {self.rows} from here on, and "
            f"what a step learns from stays the same ({why})",
            level="warning",
        )
        return self.attempt(most, work, undo)

    def _words(self, rows: int) -> str:
        before = [h["from"] for h in self.halved if h["name"] == self.name]
        return f"{self.name} {rows}" + (f", halved from {before[0]} already" if before else "")
