"""What the text loop tells on its way."""

import logging
import time

from trainyard.trainer.reporting import Reporter
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

    def __init__(self, report: Reporter, total: int, every: int) -> None:
        self._report, self._total, self._every = report, total, every
        self._began = self._since = time.perf_counter()
        self._steps = self._tokens = 0

    def step(self, position: Position, batches: int, rate: float, tokens: int) -> None:
        """A step was done, over `tokens` tokens, at `rate`."""
        self._report.step = position.step
        self._steps += 1
        self._tokens += tokens
        if position.step % self._every and position.step != self._total:
            return
        now = time.perf_counter()
        data = {
            "step": position.step,
            "total_steps": self._total,
            "epoch": round(position.epoch + position.index / batches, 4),
            "loss": position.take_loss(),
            "learning_rate": rate,
            "tokens_per_second": round(self._tokens / max(now - self._since, 1e-9), 1),
            "eta_seconds": round((self._total - position.step) * (now - self._began) / self._steps, 1),
        }
        log.info("step %d of %d: loss %.4f", position.step, self._total, data["loss"])
        self._report.event("progress", data)
        self._since, self._tokens = now, 0
