"""What the text loop puts into a checkpoint, and what must be equal for the same curve to go on."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.finishing import Sums, beside
from trainyard.trainer.generators import gathered
from trainyard.trainer.keeping import Keeping
from trainyard.trainer.optimizer_file import OPTIMIZER, save_optimizer
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run
from trainyard.trainer.surroundings import surroundings
from trainyard.trainer.text import model as models
from trainyard.trainer.text.data import Corpus
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.sharding import sharded, whole_optimizer, whole_state
from trainyard.trainer.text.state import Position

_BYTES_A_PARAMETER = 12
"""fp32 weights and AdamW's two moments."""


@frozen
class Keeper:
    """Saves the whole state of a run."""

    run: Run
    settings: Settings
    corpus: Corpus
    checkpoints: Checkpoints
    model: Any
    tokenizer: Any
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    world: World

    @property
    def keeping(self) -> Keeping:
        """When what is written, told and removed."""
        return Keeping(self.run, self.checkpoints, self.world, self.settings.save_total_limit)

    def save(self, position: Position, kind: str) -> None:
        """See `Keeping.save`; the best checkpoint is never removed. Every process calls it."""
        self.keeping.save(
            position.step,
            kind,
            state=lambda: State.of(self.model, self.optimizer, self.world, self.settings.adapts),
            needed=_BYTES_A_PARAMETER * sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            write=lambda folder, sums, state: self._write(folder, sums, position, state),
            later=self.tokenizer.save_pretrained,
            best=position.best_step,
        )

    def agree(self) -> tuple[bool, bool]:
        """See `Keeping.agree`."""
        return self.keeping.agree()

    def check(self) -> None:
        """See `Keeping.check`."""
        self.keeping.check()

    def finish(self) -> None:
        """Wait until what was saved stands. Every process calls it."""
        self.keeping.finish()

    def _write(self, folder: Path, sums: Sums, position: Position, state: "State") -> dict[str, Any]:
        with beside(lambda: self._write_optimizer(folder, sums, state)):
            models.save_for_resume(self.model, folder, state.weights, sums.open)
        used = self.settings.cut(position.micro)
        batch = {
            "asked": self.settings.micro_batch_size,
            "micro_batch_size": position.micro,
            "steps": used.accumulation,
        }
        position = copy.deepcopy(position)  # training goes on while this is written
        return {
            "epoch": position.epoch,
            "loader": {"epoch": position.epoch, "index": position.index, "data": data_of(self.corpus)},
            "generators": state.generators,
            "accumulation": batch
            | {"halved": position.halved, "loss_sum": position.loss_sum, "loss_steps": position.loss_steps},
            "scheduler": {"kind": self.settings.lr_scheduler, "step": position.step},
            "progress": {"evaluated": position.evaluated, "metrics": position.metrics, "best": position.best},
            "settings": used.plain(),
            "changes": position.changes,
            **surroundings(self.run.spec.threads),
        }

    def _write_optimizer(self, folder: Path, sums: Sums, state: "State") -> None:
        with sums.open(folder / OPTIMIZER) as optimizer:
            save_optimizer(state.optimizer, self.scaler, optimizer)


@frozen
class State:
    """What the processes put together for a checkpoint; in whole tensors, where the first process holds shares."""

    #: None: the model itself holds them.
    weights: dict[str, torch.Tensor] | None
    optimizer: dict[str, Any]
    generators: dict[str, Any]

    @classmethod
    def of(cls, model: Any, optimizer: torch.optim.Optimizer, world: World, adapts: bool) -> "State":
        """Every process calls it; what it returns is whole in the first one."""
        shares = sharded(model)
        weights = whole_state(model, world, trained=adapts) if shares else None
        moments = whole_optimizer(optimizer, world) if shares else optimizer.state_dict()
        return cls(weights, moments, gathered(world))


def data_of(corpus: Corpus) -> list[dict[str, Any]]:
    """Which data it was."""
    return [{"file": str(s.path), "rows": s.rows, "bytes": s.bytes, "sha256": s.sha256} for s in corpus.sources]


def with_kept_micro(record: Mapping[str, Any], asked: Settings, position: Position) -> Settings:
    """The settings with a checkpoint's micro batch, chosen or halved since, where the same is asked for as then."""
    before, accumulation = record["settings"], record["accumulation"]
    same = all(before.get(name) == getattr(asked, name) for name in ("batch_size", "processes"))
    micro = accumulation.get("micro_batch_size")
    if micro and same and accumulation.get("asked", micro) == asked.micro_batch_size:
        return asked.cut(int(micro))
    position.halved.clear()
    return asked


def differences(record: Mapping[str, Any], threads: int, settings: Settings, corpus: Corpus) -> list[str]:
    """What is not as it was when the checkpoint was written, each with what follows from it."""
    present = surroundings(threads).items()
    found = [f"{k} differ: {_short(record.get(k))} then, {_short(v)} now" for k, v in present if record.get(k) != v]
    before, after = record.get("settings", {}), json.loads(json.dumps(settings.plain()))
    changed = [f"{k} {before.get(k)!r} → {v!r}" for k, v in after.items() if before.get(k) != v]
    if changed:
        found.append(f"settings differ: {', '.join(changed)}")
    if [d.get("sha256") for d in record["loader"].get("data", ())] != [s.sha256 for s in corpus.sources]:
        found.append("the data is not what it was; the place in it is kept as a number of batches")
    return [f"{what}; the curve will be close to the undisturbed one, not equal" for what in found]


def _short(value: object) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
