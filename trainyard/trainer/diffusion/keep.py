"""What the diffusion loop puts into a checkpoint, and what must be equal for the same curve to go on."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import asdict, frozen

from schemas.diffusion import Options
from trainyard.trainer.checkpoints import Checkpoint
from trainyard.trainer.diffusion.comfyui import name_as_asked
from trainyard.trainer.diffusion.ema import Average
from trainyard.trainer.diffusion.job import Job
from trainyard.trainer.diffusion.model import Trained
from trainyard.trainer.diffusion.state import Position
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.finishing import Sums
from trainyard.trainer.generators import gathered, restore_generators
from trainyard.trainer.keeping import Keeping
from trainyard.trainer.optimizer_file import OPTIMIZER, read_optimizer, save_optimizer
from trainyard.trainer.processes import World
from trainyard.trainer.surroundings import surroundings

_SLACK, _SLACK_BYTES = 1.02, 1 << 20
"""A checkpoint's records, the heads of its files and a model's buffers, besides the numbers."""
#: What a curve depends on, besides what every engine computes with.
PACKAGES = ("diffusers", "lycoris-lora", "optimum-quanto", "torch-optimi", "torchao", "bitsandbytes")
#: Options that no step depends on.
_FREE = (
    "checkpoint",
    "resume_from",
    "validat",
    "ema_validation",
    "model_card",
    "post_",
    "tracker_",
    "report_to",
    "logging_steps",
)


@frozen
class Keeper:
    """Saves the whole state of a run."""

    job: Job
    trained: Trained
    average: Average | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    world: World

    @property
    def keeping(self) -> Keeping:
        """When what is written, told and removed."""
        job = self.job
        return Keeping(job.run, job.checkpoints, self.world, job.options.checkpoints_total_limit or None, self._stood)

    def save(self, position: Position, kind: str) -> None:
        """See `Keeping.save`. Every process calls it."""
        self.keeping.save(
            position.step,
            kind,
            state=lambda: gathered(self.world),
            needed=room(
                self.trained.parameters, self.optimizer, self.average, twice=self.job.options.model_type != "full"
            ),
            write=lambda folder, sums, generators: self._write(folder, sums, position, generators),
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up what a checkpoint holds, and say what is not as it was when it was written.

        Raises `ConfigError` where it is of other parameters.
        """
        saved = read_optimizer(checkpoint.path, self.world.device)
        try:
            self.trained.load(checkpoint.path)
            if self.average is not None:
                self.average.load(checkpoint.path)
            self.optimizer.load_state_dict(saved["optimizer"])
        except ValueError as e:
            raise ConfigError(
                f"extra_parameters.resume_from_checkpoint: {checkpoint.path} does not fit what is trained: {e}"
            ) from e
        self.scaler.load_state_dict(saved["scaler"])
        restore_generators(checkpoint.record["generators"], self.world)
        report = self.job.run.report
        report.log(f"goes on from step {checkpoint.step}: {checkpoint.path}")
        for difference in differences(checkpoint.record, self.job):
            report.log(difference, level="warning")

    def _stood(self, done: Checkpoint) -> None:
        self.job.scripts.checkpoint(done.path, done.step)

    def _write(self, folder: Path, sums: Sums, position: Position, generators: Mapping[str, Any]) -> dict[str, Any]:
        self.trained.save(folder)
        name_as_asked(folder, self.job.options)
        if self.average is not None:
            self.average.save(folder)
        for path in folder.rglob("*"):
            if path.is_file():
                sums.begin(path)
        with sums.open(folder / OPTIMIZER) as optimizer:
            save_optimizer(self.optimizer.state_dict(), self.scaler, optimizer)
        position, options = copy.deepcopy(position), self.job.options
        return {
            "epoch": position.epoch,
            "loader": {"epoch": position.epoch, "index": position.index, "data": self.job.gallery.plain()},
            "generators": generators,
            "accumulation": {
                "micro_batch_size": options.train_batch_size,
                "steps": options.gradient_accumulation_steps,
                "loss_sum": position.loss_sum,
                "loss_steps": position.loss_steps,
            },
            "scheduler": {"kind": options.lr_scheduler, "step": position.step},
            "progress": {"evaluated": position.evaluated, "metrics": position.metrics},
            "settings": plain(options),
            "changes": position.changes,
            **surroundings(self.job.run.spec.threads, PACKAGES),
        }


def room(
    parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, average: Average | None, *, twice: bool
) -> int:
    """Bytes that a checkpoint takes at most; `twice`: the weights are written for going on and for stock loaders."""
    weights = _bytes(parameters) * (2 if twice else 1)
    mean = 0 if average is None else average.bytes
    return int((weights + mean + _bytes(optimizer.state_dict())) * _SLACK) + _SLACK_BYTES


def _bytes(held: object) -> int:
    """Of the tensors in it."""
    if isinstance(held, torch.Tensor):
        return held.numel() * held.element_size()
    if isinstance(held, Mapping):
        return sum(map(_bytes, held.values()))
    return sum(map(_bytes, held)) if isinstance(held, list | tuple) else 0


def plain(options: Options) -> dict[str, Any]:
    """As JSON."""
    found: dict[str, Any] = json.loads(json.dumps(asdict(options), default=str))
    return found


def differences(record: Mapping[str, Any], job: Job) -> list[str]:
    """What is not as it was when the checkpoint was written, each with what follows from it."""
    present = surroundings(job.run.spec.threads, PACKAGES).items()
    found = [f"{k} differ: {_short(record.get(k))} then, {_short(v)} now" for k, v in present if record.get(k) != v]
    before, after = record.get("settings", {}), plain(job.options)
    changed = [
        f"{k} {before.get(k)!r} → {v!r}" for k, v in after.items() if before.get(k) != v and not k.startswith(_FREE)
    ]
    if changed:
        found.append(f"options differ: {', '.join(changed)}")
    if [d.get("sha256") for d in record["loader"].get("data", ())] != [d["sha256"] for d in job.gallery.plain()]:
        found.append("the data is not what it was; the place in it is kept as a number of batches")
    return [f"{what}; the curve will be close to the undisturbed one, not equal" for what in found]


def _short(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
