"""What the text loop puts into a checkpoint, and what must be equal for the same curve to go on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.run import Run
from trainyard.trainer.text.rows import Corpus
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position, generators, save_optimizer, surroundings

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

    def save(self, position: Position, kind: str) -> None:
        """Write a checkpoint, tell it, answer who asked for one, and remove the oldest.

        Nothing is written before the first step, nor twice for one step.
        """
        control = self.run.control
        if position.step == 0:
            return
        if control.saved_step != position.step:
            needed = _BYTES_A_PARAMETER * sum(p.numel() for p in self.model.parameters() if p.requires_grad)
            done = self.checkpoints.save(position.step, needed, lambda folder: self._write(folder, position))
            told = {"step": done.step, "uri": str(done.path), "bytes": done.bytes, "kind": kind}
            self.run.report.event("checkpoint", told)
            self.checkpoints.prune(self.settings.save_total_limit)
        control.saved(position.step)

    def _write(self, folder: Path, position: Position) -> dict[str, Any]:
        save_model(self.model, folder)
        self.tokenizer.save_pretrained(folder)
        save_optimizer(self.optimizer, self.scaler, folder)
        batch = {"micro_batch_size": self.settings.micro_batch_size, "steps": self.settings.accumulation}
        return {
            "epoch": position.epoch,
            "loader": {"epoch": position.epoch, "index": position.index, "data": data_of(self.corpus)},
            "generators": generators(),
            "accumulation": batch | {"loss_sum": position.loss_sum, "loss_steps": position.loss_steps},
            "scheduler": {"kind": self.settings.lr_scheduler, "step": position.step},
            "progress": {"evaluated": position.evaluated, "metrics": position.metrics},
            "settings": self.settings.plain(),
            "changes": list(self.run.spec.changes),
            **surroundings(self.run.spec.threads),
        }


def save_model(model: Any, folder: Path) -> None:
    """Weights or adapter as the stock loaders read them, without peft's empty model card; nothing is asked of a hub."""
    adapter = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {}
    model.save_pretrained(folder, **adapter)
    (folder / "README.md").unlink(missing_ok=True)


def data_of(corpus: Corpus) -> list[dict[str, Any]]:
    """Which data it was."""
    return [{"file": str(s.path), "rows": s.rows, "bytes": s.bytes, "sha256": s.sha256} for s in corpus.sources]


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
