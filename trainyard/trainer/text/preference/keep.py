"""Checkpoints of a run by one of TRL's trainers: its own state in a folder of ours."""

from pathlib import Path
from typing import Any

from attrs import frozen

from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.keeping import Keeping
from trainyard.trainer.numbers import check_sound
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run
from trainyard.trainer.surroundings import surroundings
from trainyard.trainer.text import model as models
from trainyard.trainer.text.data import Corpus
from trainyard.trainer.text.keep import data_of
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position

_BYTES_A_PARAMETER = 12
"""fp32 weights and AdamW's two moments."""
_STATE = "trainer_state.json"


@frozen
class TrlKeeper:
    """Saves the whole state of a transformers `Trainer` in the way of `Checkpoints`; of several processes the first."""

    run: Run
    settings: Settings
    corpus: Corpus
    checkpoints: Checkpoints
    world: World

    @property
    def keeping(self) -> Keeping:
        """When what is written, told and removed."""
        return Keeping(self.run, self.checkpoints, self.world, self.settings.save_total_limit)

    def save(self, trainer: Any, position: Position, kind: str) -> None:
        """See `Keeping.save`; it is waited for until it stands.

        Raises `NanLoss` where the steps since the newest one spoilt the model: it must not be kept as good.
        """
        if position.step == 0:
            return
        check_sound(self.run, position, trainer.sound)
        self.keeping.save(
            position.step,
            kind,
            state=lambda: None,
            needed=_BYTES_A_PARAMETER * sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            write=lambda folder, _sums, _state: self._write(folder, trainer, position),
            best=position.best_step,
        )
        self.keeping.finish()

    def _write(self, folder: Path, trainer: Any, position: Position) -> dict[str, Any]:
        models.save_for_resume(trainer.model, folder)
        trainer.processing_class.save_pretrained(folder)
        trainer._save_optimizer_and_scheduler(str(folder))
        trainer._save_scaler(str(folder))
        trainer._save_rng_state(str(folder))
        trainer.state.save_to_json(str(folder / _STATE))
        used = self.settings.cut(position.micro)
        batch = {
            "asked": self.settings.micro_batch_size,
            "micro_batch_size": position.micro,
            "steps": used.accumulation,
            "halved": position.halved,
        }
        return {
            "epoch": position.epoch,
            "loader": {"epoch": position.epoch, "index": position.index, "data": data_of(self.corpus)},
            "generators": {"file": "rng_state.pth"},
            "accumulation": batch | {"loss_sum": 0.0, "loss_steps": 0},
            "scheduler": {"kind": self.settings.lr_scheduler, "step": position.step},
            "progress": {"evaluated": position.evaluated, "metrics": position.metrics, "best": position.best},
            "settings": used.plain(),
            "changes": position.changes,
            **surroundings(self.run.spec.threads),
        }


def check_kind(newest: Checkpoint, objective: str) -> None:
    """Raises `ConfigError` when a checkpoint was not written by a run of this kind."""
    if not (newest.path / _STATE).is_file():
        before = newest.record.get("settings", {}).get("objective")
        raise ConfigError(
            f"tuning_parameters.objective: {newest.path} is of objective {before!r}, this run's is {objective!r}; "
            "give an output folder of its own"
        )
