"""What the text loop tells on its way."""

import logging
import time
from collections.abc import Mapping

from trainyard.trainer.reporting import Reporter
from trainyard.trainer.text.board import Board
from trainyard.trainer.text.pace import Pace
from trainyard.trainer.text.state import Position
from trainyard.trainer.text.tokens import Tokenised

_NAMED = 3
log = logging.getLogger("trainyard.trainer")


def tell_data(report: Reporter, data: Tokenised, training: int, held_out: int, longest: int) -> None:
    """What became of the rows."""
    tokens = sum(map(len, data.examples))
    report.log(f"{training} rows to train on, {held_out} held out, {tokens:,} tokens")
    if data.truncated:
        report.log(f"{data.truncated} rows are longer than {longest} tokens and were cut", level="warning")
    if data.left_out:
        named = ", ".join(data.left_out[:_NAMED]) + (" …" if len(data.left_out) > _NAMED else "")
        report.log(
            f"{len(data.left_out)} rows have no target within {longest} tokens and are left out: {named}",
            level="warning",
        )


class Progress:
    """A `progress` event every so many steps and at the last one: the mean loss since the one before."""

    def __init__(self, report: Reporter, board: Board, pace: Pace) -> None:
        self._report, self._board, self._pace = report, board, pace
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._steps = self._tokens = 0

    def step(self, position: Position, batches: int, rate: float, norm: float, tokens: int, seconds: float) -> None:
        """A step was done at `rate`, over `tokens` tokens, with a gradient of this `norm`, in so many seconds."""
        self._report.step = position.step
        self._steps += 1
        self._tokens += tokens
        self._seconds += seconds
        total = self._pace.total
        if position.step % self._pace.logging_steps and position.step < total:
            return
        numbers = {
            "loss": position.take_loss(),
            "learning_rate": rate,
            "grad_norm": norm,
            "tokens_per_second": round(self._tokens / max(self._seconds, 1e-9), 1),
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
        self._seconds, self._tokens = 0.0, 0

    def evaluated(self, position: Position, metrics: Mapping[str, float]) -> None:
        """The held-out rows were evaluated."""
        self._report.event("validation", {"step": position.step, "metrics": metrics})
        self._board.scalars(position.step, {"eval_loss": metrics["eval_loss"]})
