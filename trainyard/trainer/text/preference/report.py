"""One of TRL's trainers as a run: what it does is told, the run's wishes are heard, its checkpoints are ours."""

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import define
from transformers import TrainerCallback

from trainyard.trainer.board import Board
from trainyard.trainer.failures import NanLoss
from trainyard.trainer.keeping import Keeping
from trainyard.trainer.numbers import numbers
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run
from trainyard.trainer.text import model as models
from trainyard.trainer.text.at_once import AtOnce
from trainyard.trainer.text.pace import Pace
from trainyard.trainer.text.preference.keep import TrlKeeper
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position

#: TRL's names of what a preference objective measures, and ours.
_MEASURED = {"rewards/margins": "reward_margin", "rewards/accuracies": "reward_accuracy"}
log = logging.getLogger("trainyard.trainer")


@define(eq=False)
class Telling(TrainerCallback):
    """Tells progress and validation as the text loop does, and asks the trainer to log, evaluate, save or end."""

    run: Run
    settings: Settings
    world: World
    position: Position
    board: Board
    pace: Pace
    held_out: bool
    keeping: Keeping
    #: What the checkpoint is that the trainer is about to write.
    kind: str = "step"
    _began: float = 0.0
    _since: float = 0.0
    _first: int = 0
    _tokens: float = 0.0

    @property
    def total(self) -> int:
        """Steps of the whole run; TRL's trainer takes no other number once it has begun."""
        return self.pace.total

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **parts: Any) -> None:
        """The clock starts; a checkpoint's rate gives way to what the document and its changes say."""
        self._hold(state, **parts)
        self._began = self._since = time.perf_counter()
        self._first, self._tokens = state.global_step, 0.0

    def on_step_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Also after an evaluation."""
        self.run.report.phase("training")

    def on_substep_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """Between two micro batches a stop gives the step up, as if it had never begun."""
        self.keeping.check()

    def on_prediction_step(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        """An evaluation is given up too."""
        self.keeping.check()

    def on_pre_optimizer_step(self, args: Any, state: Any, _control: Any, *, model: Any, **_: Any) -> None:
        """Raises `NanLoss` before a gradient that is no number is applied; with fp16 the loss scale skips the step."""
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not args.fp16 and self.world.any(not numbers(gradients))[0]:
            raise NanLoss(
                f"step {state.global_step + 1} came to a gradient that is no number (learning rate "
                f"{self.pace.rate(state.global_step):.3g}) and was not taken; what was learned before is kept, a lower "
                "rate may hold"
            )

    def on_step_end(self, _args: Any, state: Any, control: Any, **parts: Any) -> None:
        """A step was done: what comes next."""
        step = self.position.step = self.run.report.step = state.global_step
        self.position.epoch, self.position.index = divmod(step, self.pace.in_epoch)
        stop, save = self.keeping.agree()
        before = self.pace.learning_rate, self.pace.logging_steps
        self.pace.keep_up(self.run.control, self.world, self.position)
        if before != (self.pace.learning_rate, self.pace.logging_steps):
            self._hold(state, **parts)
        last, every = step >= self.total, self.pace.save_steps
        control.should_log = control.should_log or last
        control.should_evaluate = self.held_out and not stop and (last or self._evaluation_due(step))
        control.should_save = stop or last or save or bool(every and step % every == 0)
        control.should_training_stop = control.should_training_stop or stop
        self.kind = "stop" if stop else "step"

    def on_log(self, _args: Any, state: Any, _control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """A `progress` event; what the trainer logs of an evaluation comes by `on_evaluate`."""
        if not logs or "loss" not in logs:
            return
        now = time.perf_counter()
        tokens, step = float(logs["num_tokens"]), state.global_step
        numbers = {name: float(logs[name]) for name in ("loss", "learning_rate", "grad_norm") if name in logs}
        numbers["tokens_per_second"] = round((tokens - self._tokens) / max(now - self._since, 1e-9), 1)
        numbers |= {ours: float(logs[theirs]) for theirs, ours in _MEASURED.items() if theirs in logs}
        self.position.metrics["loss"] = numbers["loss"]
        place = {"step": step, "total_steps": self.total, "epoch": round(state.epoch or 0.0, 4)}
        left = (self.total - step) * (now - self._began) / (step - self._first)
        log.info("step %d of %d: loss %.4f", step, self.total, numbers["loss"])
        self.run.report.event("progress", {**place, **numbers, "eta_seconds": round(left, 1)})
        self._draw(step, numbers)
        self._since, self._tokens = now, tokens

    def on_evaluate(self, _args: Any, state: Any, control: Any, metrics: Mapping[str, Any], **_: Any) -> None:
        """A `validation` event; the best is kept as in the text loop, and early stopping ends what gets no better."""
        found = {"eval_loss": float(metrics["eval_loss"])}
        found |= {f"eval_{ours}": float(metrics[f"eval_{theirs}"]) for theirs, ours in _MEASURED.items()}
        if not math.isfinite(found["eval_loss"]):
            raise NanLoss(f"the held-out rows came to a loss of {found['eval_loss']} after step {state.global_step}")
        better = self.position.note_evaluation(found)
        self.run.report.event("validation", {"step": state.global_step, "metrics": found})
        self._draw(state.global_step, found)
        patience = self.settings.early_stopping_patience
        if better and (patience is not None or self.pace.save_steps is not None):
            control.should_save, self.kind = True, "best"
        if patience is not None and self.position.no_better >= patience:
            control.should_save = control.should_training_stop = True

    def _hold(self, state: Any, *, optimizer: Any, lr_scheduler: Any, **_: Any) -> None:
        """What the pace says from the next step on; later steps ask the scheduler, which asks the pace."""
        rate = self.pace.rate(state.global_step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        getattr(lr_scheduler, "scheduler", lr_scheduler)._last_lr = [rate] * len(optimizer.param_groups)
        state.logging_steps = self.pace.logging_steps

    def _evaluation_due(self, step: int) -> bool:
        if self.pace.eval_steps is None:
            return self.settings.early_stopping_patience is not None and self.position.index == 0
        return step % self.pace.eval_steps == 0

    def _draw(self, step: int, numbers: Mapping[str, float]) -> None:
        if self.world.first:
            self.board.scalars(step, numbers)


class Supervised:
    """Mixed into one of TRL's trainers, before it; `told`, `keeper` and `rows` are set once it is made."""

    told: Telling
    keeper: TrlKeeper
    #: Rows that are evaluated at once.
    rows: AtOnce
    #: The first row of the newest batch that had a loss.
    _learned: dict[str, Any] | None = None

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """The rows are tokens already."""
        return dataset

    def _save_checkpoint(self, _model: Any, _trial: Any) -> None:
        self.keeper.save(self, self.told.position, self.told.kind)

    def _load_from_checkpoint(self, folder: str, model: Any = None) -> None:
        """An adapter as our own loop writes and reads it; a whole model in transformers' way."""
        if self.told.settings.adapts:
            models.load_adapter(self.model, Path(folder), self.told.world.device)  # type: ignore[attr-defined]
        else:
            super()._load_from_checkpoint(folder, model)  # type: ignore[misc]

    def evaluate(self, *arguments: Any, **named: Any) -> Any:
        """Tells the phase first."""
        self.told.run.report.phase("evaluating")
        evaluate = super().evaluate  # type: ignore[misc]

        def attempt(rows: int) -> Any:
            self.args.per_device_eval_batch_size = rows  # type: ignore[attr-defined]
            return evaluate(*arguments, **named)

        if self.told.world.size > 1:
            return self.rows.together(self.rows.rows, attempt, self.told.position.step)
        return self.rows.attempt(self.rows.rows, attempt, lambda: None)

    def training_step(self, model: Any, inputs: dict[str, Any], *more: Any) -> Any:
        """Raises `NanLoss` before the optimizer makes a step of it."""
        loss = super().training_step(model, inputs, *more)  # type: ignore[misc]
        if self.told.world.any(not math.isfinite(loss.item()))[0]:
            step, rate = self.told.position.step + 1, self.told.pace.rate(self.told.position.step)
            raise NanLoss(
                f"step {step} came to a loss of {loss.item()} (learning rate {rate:.3g}) and was not taken; what was "
                "learned before is kept, a lower rate may hold"
            )
        self._learned = {name: inputs[name][:1] for name in ("input_ids", "attention_mask")}
        return loss

    def sound(self) -> bool:
        """Whether the trained parameters are numbers, and give the newest row that was learned from logits that are."""
        model: Any = self.model  # type: ignore[attr-defined]
        trained = [p for p in model.parameters() if p.requires_grad]
        if self.told.world.any(not numbers(trained))[0]:
            return False
        if self._learned is None:
            return True
        model.eval()
        try:
            with torch.no_grad(), self.compute_loss_context_manager():  # type: ignore[attr-defined]
                given = self._prepare_inputs(self._learned)  # type: ignore[attr-defined]
                logits = model(**given, use_cache=False).logits
        finally:
            model.train()
        return not self.told.world.any(not bool(logits.isfinite().all()))[0]
