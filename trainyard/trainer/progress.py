"""What a loop tells of its steps."""

import logging
import time
from collections.abc import Mapping

from trainyard.trainer.board import Scalars
from trainyard.trainer.pace import Pace
from trainyard.trainer.position import Position
from trainyard.trainer.reporting import Reporter

log = logging.getLogger("trainyard.trainer")


class Progress:
    """A `progress` event every so many steps and at the last one: the mean loss since the one before."""

    def __init__(self, report: Reporter, board: Scalars, pace: Pace, unit: str = "tokens") -> None:
        self._report, self._board, self._pace, self._unit = report, board, pace, unit
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._steps = self._amount = 0
        self._rate = self._norm = 0.0

    def step(self, position: Position, batches: int, rate: float, norm: float, amount: int, seconds: float) -> None:
        """A step was done at `rate`, over so much data, with a gradient of this `norm`, in so many seconds."""
        self._report.step = position.step
        self._steps += 1
        self._amount += amount
        self._seconds += seconds
        self._rate, self._norm = rate, norm
        if position.step % self._pace.logging_steps == 0 or position.step >= self._pace.total:
            self.tell(position, batches)

    def tell(self, position: Position, batches: int, over: bool = False) -> None:
        """What was done since the last report; nothing where that is nothing: a run may end between two reports."""
        if not self._amount:
            return
        total = position.step if over else max(self._pace.total, position.step)
        numbers = {
            "loss": position.take_loss(),
            "learning_rate": self._rate,
            "grad_norm": self._norm,
            f"{self._unit}_per_second": round(self._amount / max(self._seconds, 1e-9), 1),
        }
        left = (total - position.step) * (time.perf_counter() - self._began) / self._steps
        data = {
            "step": position.step,
            "total_steps": total,
            "epoch": round(position.epoch + position.index / batches, 4),
            **numbers,
            "eta_seconds": round(left, 1),
        }
        log.info("step %d of %d: loss %.4f", position.step, total, numbers["loss"])
        self._report.event("progress", data)
        self._board.scalars(position.step, numbers)
        self._seconds, self._amount = 0.0, 0

    def evaluated(self, position: Position, metrics: Mapping[str, float]) -> None:
        """The held-out rows were evaluated."""
        self._report.event("validation", {"step": position.step, "metrics": metrics})
        self._board.scalars(position.step, {"eval_loss": metrics["eval_loss"]})
