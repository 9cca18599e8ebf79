"""TRL's trainers, made from our settings: one class and one configuration an objective."""

import copy
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from trainyard.trainer.failures import ConfigError, first_line
from trainyard.trainer.run import Run
from trainyard.trainer.text import model as models
from trainyard.trainer.text.optimizers import make_optimizer
from trainyard.trainer.text.pace import Pace
from trainyard.trainer.text.preference.pairs import Pair
from trainyard.trainer.text.preference.report import Supervised, Telling
from trainyard.trainer.text.settings import Settings


class Dpo(Supervised, DPOTrainer):
    """Direct preference optimisation."""


TRAINERS: dict[str, tuple[type[Any], type[Any]]] = {"dpo": (Dpo, DPOConfig)}
REFERENCE = "ref"
"""TRL's name of the copy of an adapter that it makes as reference."""
TRAINED = "default"
"""peft's name of the adapter itself."""


def make_trainer(
    run: Run, settings: Settings, model: Any, tokenizer: Any, told: Telling, rows: tuple[list[Pair], list[Pair]]
) -> Any:
    """The trainer of the objective, over rows that are tokens already.

    The reference is the model as it is now: a copy of a whole one; of a fresh adapter, which changes nothing yet, the
    base with the adapter switched off; of an adapter that is trained on, a copy of that.
    """
    kind, configuration = TRAINERS[settings.objective]
    training, held_out = (_dataset(some) for some in rows)
    half = models.computed_in(settings, told.world.device)
    try:
        trainer = kind(
            model,
            ref_model=None if settings.adapts else copy.deepcopy(model),
            args=configuration(**_arguments(run, settings, told.total, half)),
            train_dataset=training,
            eval_dataset=held_out,
            processing_class=tokenizer,
            callbacks=[told],
            optimizers=_optimizer(model, settings, told.pace),
        )
    except (ValueError, KeyError, AttributeError) as e:
        if not settings.adapts:
            raise
        raise ConfigError(
            f"customization: objective {settings.objective!r} can't train this adapter: {first_line(e)}; method lora "
            "with target_modules of the linear layers would run"
        ) from e
    trainer.remove_callback(PrinterCallback)
    if settings.method != "adapter":
        drop_reference(model)
    for parameter in (p for p in model.parameters() if p.requires_grad):
        parameter.data = parameter.data.float()  # TRL makes an adapter on a quantised base bf16; it learns in fp32
    return trainer


def drop_reference(model: Any) -> None:
    """Take TRL's copy of the adapter off the model."""
    if REFERENCE in getattr(model, "peft_config", ()):
        model.delete_adapter(REFERENCE)
        model.set_adapter(TRAINED)


def take_at_once(trainer: Any, settings: Settings) -> None:
    """Let a trainer take another micro batch from its next `train` on."""
    trainer.args.per_device_train_batch_size = trainer._train_batch_size = settings.micro_batch_size
    trainer.args.gradient_accumulation_steps = settings.accumulation


def _dataset(rows: list[Pair]) -> Dataset | None:
    columns = {"prompt_ids": "prompt", "chosen_ids": "chosen", "rejected_ids": "rejected"}
    if not rows:
        return None
    return Dataset.from_dict({theirs: [getattr(row, ours) for row in rows] for theirs, ours in columns.items()})


def _arguments(run: Run, settings: Settings, total: int, half: torch.dtype | None) -> dict[str, Any]:
    """The settings in transformers' words; when to log, evaluate and save is decided by `Telling`."""
    return {
        "output_dir": str(run.spec.output / "checkpoints"),
        "max_steps": total,
        "per_device_train_batch_size": settings.micro_batch_size,
        "per_device_eval_batch_size": settings.micro_batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "learning_rate": settings.learning_rate,
        "max_grad_norm": settings.max_grad_norm,
        "max_length": None,
        "gradient_checkpointing": False,  # switched on, where it is wanted, on the model itself
        "fp16": half is torch.float16,
        "bf16": half is torch.bfloat16,
        "seed": settings.seed,
        "use_cpu": not run.spec.devices,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": settings.logging_steps,
        "disable_tqdm": True,
        "report_to": "none",
        "dataloader_pin_memory": bool(run.spec.devices),
    }


class Paced(torch.optim.lr_scheduler.LRScheduler):
    """The rates of the text loop, asked for at each step: they may be changed, and on resume be others than before."""

    def __init__(self, optimizer: torch.optim.Optimizer, pace: Pace) -> None:
        self._pace = pace
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        return [self._pace.rate(self.last_epoch) for _ in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch}


def _optimizer(model: Any, settings: Settings, pace: Pace) -> tuple[Any, Any]:
    optimizer = make_optimizer(settings, models.parameter_groups(model, settings.weight_decay), model)
    return optimizer, Paced(optimizer, pace)
