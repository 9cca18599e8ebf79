"""What the text loop tells on its way."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from trainyard.trainer.reporting import Reporter
from trainyard.trainer.text.board import Board
from trainyard.trainer.text.data.material import counted
from trainyard.trainer.text.pace import Pace
from trainyard.trainer.text.state import Position
from trainyard.trainer.text.tokens.tokenise import Tokenised, give_template

_NAMED = 3
log = logging.getLogger("trainyard.trainer")


def tell_data(
    report: Reporter, data: Tokenised, training: int, held_out: int, longest: int, eval_ratio: float = 0.0
) -> None:
    """What became of the rows."""
    tokens = int(data.examples.lengths.sum())
    report.log(f"{counted(training)} to train on, {held_out} held out, {counted(tokens, 'token', 'tokens')}")
    tell_held_out(report, training, held_out, eval_ratio)
    if data.truncated:
        cut = counted(data.truncated, "row is", "rows are")
        report.log(f"{cut} longer than {longest} tokens and cut to them", level="warning")
    if data.left_out:
        named = ", ".join(data.left_out[:_NAMED]) + (" …" if len(data.left_out) > _NAMED else "")
        report.log(
            f"left out, as there is no target within {longest} tokens: {counted(len(data.left_out))}: {named}",
            level="warning",
        )


def tell_template(report: Reporter, tokenizer: Any) -> None:
    """Give a tokenizer that has no chat template ours, and say so."""
    if give_template(tokenizer):
        report.log("the model has no chat template; messages are written as ChatML, and the result keeps that template")


def tell_held_out(report: Reporter, training: int, held_out: int, eval_ratio: float) -> None:
    """Warn of a share of the rows that was asked for and could not be held out."""
    if eval_ratio > 0 and not held_out:
        report.log(
            f"tuning_parameters.eval_ratio: {eval_ratio:g} of {counted(training)} is none; nothing is held out or "
            "evaluated, which takes at least 2 rows",
            level="warning",
        )


class Progress:
    """A `progress` event every so many steps and at the last one: the mean loss since the one before."""

    def __init__(self, report: Reporter, board: Board, pace: Pace) -> None:
        self._report, self._board, self._pace = report, board, pace
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._steps = self._tokens = 0
        self._rate = self._norm = 0.0

    def step(self, position: Position, batches: int, rate: float, norm: float, tokens: int, seconds: float) -> None:
        """A step was done at `rate`, over `tokens` tokens, with a gradient of this `norm`, in so many seconds."""
        self._report.step = position.step
        self._steps += 1
        self._tokens += tokens
        self._seconds += seconds
        self._rate, self._norm = rate, norm
        if position.step % self._pace.logging_steps == 0 or position.step >= self._pace.total:
            self.tell(position, batches)

    def tell(self, position: Position, batches: int, over: bool = False) -> None:
        """What was done since the last report; nothing where that is nothing: a run may end between two reports."""
        if not self._tokens:
            return
        total = position.step if over else max(self._pace.total, position.step)
        numbers = {
            "loss": position.take_loss(),
            "learning_rate": self._rate,
            "grad_norm": self._norm,
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
