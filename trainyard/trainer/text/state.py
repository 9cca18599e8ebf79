"""Everything that a run needs to go on as if it had never been stopped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import define, field

from trainyard.trainer import position
from trainyard.trainer.optimizer_file import read_optimizer
from trainyard.trainer.text.sharding import spread_optimizer


@define
class Position(position.Position):
    """Where the run stands, and what was best."""

    evaluated: int = -1
    #: Sequences that a device takes at once.
    micro: int = 1
    #: The step with the least held-out loss since the first one, and evaluations since then that were no better.
    best_step: int = 0
    best_loss: float | None = None
    no_better: int = 0
    #: The step whose model is the result, where that is not the last one.
    result_step: int | None = None
    #: Each time that memory ran out: what was halved at which step.
    halved: list[dict[str, Any]] = field(factory=list)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Position":
        """As a checkpoint's record tells it."""
        loader, gathered, progress = record["loader"], record["accumulation"], record["progress"]
        best = progress.get("best", {})
        return cls(
            step=record["step"],
            epoch=loader["epoch"],
            index=loader["index"],
            evaluated=progress["evaluated"],
            loss_sum=gathered["loss_sum"],
            loss_steps=gathered["loss_steps"],
            best_step=best.get("step", 0),
            best_loss=best.get("eval_loss"),
            no_better=best.get("since", 0),
            metrics=dict(progress["metrics"]),
            halved=list(gathered.get("halved", ())),
        )

    @property
    def best(self) -> dict[str, Any]:
        """As JSON."""
        return {"step": self.best_step, "eval_loss": self.best_loss, "since": self.no_better}

    def note_evaluation(self, metrics: Mapping[str, float]) -> bool:
        """The held-out rows were evaluated at this step; whether it is the best so far. The first time is kept too."""
        self.evaluated = self.step
        self.metrics.setdefault("eval_loss_before", metrics["eval_loss"])
        self.metrics.update(metrics)
        if self.step == 0:
            return False
        better = self.best_loss is None or metrics["eval_loss"] < self.best_loss
        if better:
            self.best_step, self.best_loss, self.no_better = self.step, metrics["eval_loss"], 0
        else:
            self.no_better += 1
        return better


def load_optimizer(
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, folder: Path, device: torch.device
) -> None:
    """What `save_optimizer` wrote, also where the parameters are shares now."""
    saved = read_optimizer(folder, device)
    spread_optimizer(optimizer, saved["optimizer"])
    scaler.load_state_dict(saved["scaler"])
