"""Where a run stands: what every loop counts."""

from typing import Any

from attrs import define, field


@define
class Position:
    """Steps done, place in the data, what was gathered since the last report."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    loss_sum: float = 0.0
    loss_steps: int = 0
    metrics: dict[str, Any] = field(factory=dict)
    #: What was changed while the job went on, in this attempt and before: `{"step", "values"}`.
    changes: list[dict[str, Any]] = field(factory=list)

    def advance(self, batches: int, loss: float) -> None:
        """One step is done; `batches` make an epoch."""
        self.step += 1
        self.index += 1
        self.loss_sum += loss
        self.loss_steps += 1
        if self.index == batches:
            self.epoch, self.index = self.epoch + 1, 0

    def place(self, batches: int) -> None:
        """Stand in an epoch of so many batches: one that became shorter, by other data or settings, may be over.

        Of none where the data is at its end: there it stays.
        """
        if 0 < batches <= self.index:
            self.epoch, self.index = self.epoch + 1, 0

    def take_loss(self) -> float:
        """The mean loss since it was last taken."""
        mean = self.loss_sum / self.loss_steps
        self.loss_sum, self.loss_steps = 0.0, 0
        self.metrics["loss"] = mean
        return mean
