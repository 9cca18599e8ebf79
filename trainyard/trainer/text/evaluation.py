"""The held-out rows: when they are evaluated, what they cost the model, and when it gets no better."""

import math
from collections.abc import Callable

import numpy as np
import torch
from attrs import frozen

from trainyard.trainer.failures import NanLoss
from trainyard.trainer.processes import World
from trainyard.trainer.text.at_once import AtOnce
from trainyard.trainer.text.loss import Loss
from trainyard.trainer.text.pace import Pace
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position
from trainyard.trainer.text.tokens.batches import blank, collate
from trainyard.trainer.text.tokens.examples import Example, Examples


@frozen
class Evaluation:
    """Evaluates the held-out rows, of like length together, `at_once` of them."""

    rows: Examples
    settings: Settings
    pace: Pace
    loss: Loss
    at_once: AtOnce
    pad: int
    world: World

    def due(self, position: Position) -> bool:
        """At the start, at the end and every `eval_steps`; without those, for early stopping, after each epoch."""
        if not len(self.rows) or position.evaluated >= position.step:
            return False
        if position.step in (0, self.pace.total):
            return True
        if self.pace.eval_steps is None:
            return self.settings.early_stopping_patience is not None and position.index == 0
        return position.step % self.pace.eval_steps == 0

    @property
    def keeps_the_best(self) -> bool:
        """Whether the best is saved: for early stopping, and where checkpoints are saved while training goes on."""
        return self.settings.early_stopping_patience is not None or self.pace.save_steps is not None

    def measure(self, model: torch.nn.Module, check: Callable[[], None]) -> dict[str, float]:
        """The mean loss of a learned token over all processes; `check` is called before each batch, as often in each.

        The model is left in training mode. Raises `NanLoss` where that is no number: such a model is no result.
        """
        world, alike = self.world, self.rows.take(np.argsort(self.rows.lengths, kind="stable"))
        total, targets, at = 0.0, 0, 0
        model.eval()
        try:
            while at < len(alike):
                check()
                some = list(alike[at : at + self.at_once.rows * world.size])
                mine = some[world.rank :: world.size] or [blank(some[0])]
                total += self._attempt(mine)
                targets += sum(e.targets for e in some)
                at += len(some)
        finally:
            model.train()
        summed = world.total(torch.tensor(total, dtype=torch.float64, device=world.device)).item()
        if not math.isfinite(summed):
            raise NanLoss(
                f"the held-out rows came to a loss of {summed / targets} after the steps so far; earlier checkpoints "
                "are kept, a lower learning rate or customization.precision bf16 or fp32 may hold"
            )
        return {"eval_loss": summed / targets, "eval_tokens": targets}

    def enough(self, position: Position) -> bool:
        """Whether as many evaluations in a row as early stopping waits for were no better than the best."""
        patience = self.settings.early_stopping_patience
        return patience is not None and position.no_better >= patience

    def _attempt(self, some: list[Example]) -> float:
        if self.world.size > 1:
            step = self.at_once.report.step
            return self.at_once.together(self.at_once.rows, lambda rows: self._sum(some, rows), step)
        return self.at_once.attempt(len(some), lambda rows: self._sum(some, rows), lambda: None)

    def _sum(self, some: list[Example], rows: int) -> float:
        parts = [some[at : at + rows] for at in range(0, len(some), rows)]
        with torch.no_grad():
            return sum(self.loss(collate([[e] for e in part], self.pad, self.world.device)).item() for part in parts)
