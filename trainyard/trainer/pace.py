"""How long the run goes, how fast, and how often it reports: what may be changed while it goes on."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define

from trainyard.trainer import schedule
from trainyard.trainer.control import Control
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.position import Position
from trainyard.trainer.processes import World

#: What may be changed is named by its path in the document.
PART = "tuning_parameters."
_CHANGED = ("learning_rate", "max_steps", "num_epochs", "save_steps", "logging_steps", "eval_steps")
#: Not the run's own: the guard keeps the deadline, and needs no answer of its own for it.
_ELSEWHERE = frozenset({"deadline_minutes"})


@define(kw_only=True)
class Pace:
    """One for a run; whoever needs a number of it asks each time."""

    lr_scheduler: str
    warmup_steps: int | None
    warmup_ratio: float
    #: Steps of an epoch.
    in_epoch: int
    learning_rate: float
    max_steps: int | None
    num_epochs: float
    save_steps: int | None
    logging_steps: int
    eval_steps: int | None
    #: What the scheduler is told besides.
    shape: schedule.Shape = schedule.Shape()
    #: What stays as it is while this run goes on, though others may change it.
    fixed: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return schedule.total_steps(self.in_epoch, self.num_epochs, self.max_steps)

    def rate(self, step: int) -> float:
        """The learning rate of a step (0 is the first)."""
        warmup = schedule.warmup_steps(self.total, self.warmup_steps, self.warmup_ratio)
        return schedule.learning_rate(self.lr_scheduler, self.learning_rate, step, self.total, warmup, self.shape)

    def change(self, values: Mapping[str, Any]) -> None:
        """Let these values, by their path in the document, hold from now on. Raises `ConfigError` for any other."""
        named = {path.removeprefix(PART): value for path, value in values.items() if path not in _ELSEWHERE}
        if strange := [name for name in named if name not in _CHANGED]:
            raise ConfigError(f"{', '.join(strange)} can't be changed while a run goes on; {', '.join(_CHANGED)} can")
        for name, value in named.items():
            setattr(self, name, value)

    def _check_free(self, values: Mapping[str, Any]) -> None:
        """Raises `ConfigError` for what is fixed in this run."""
        held = [name for name in self.fixed if PART + name in values]
        if held:
            free = ", ".join(name for name in _CHANGED if name not in self.fixed)
            raise ConfigError(f"{', '.join(held)} can't be changed while a run of this objective goes on; {free} can")

    def catch_up(self, changes: Iterable[Mapping[str, Any]], step: int) -> None:
        """What was changed before or at the step that the run goes on from."""
        for entry in changes:
            if entry["step"] <= step:
                self.change(entry["values"])

    def keep_up(self, control: Control, world: World, position: Position) -> None:
        """At a step's end: repeat what earlier attempts changed there, and take what was asked for meanwhile."""
        for entry in position.changes:
            if entry["step"] == position.step:
                self.change(entry["values"])
        for asked in control.changes(world):
            try:
                self._check_free(asked.values)
                self.change(asked.values)
            except ConfigError as e:
                control.answer(asked.id, False, str(e))
            else:
                position.changes[:] = _without_later(position.changes, position.step, asked.values)
                position.changes.append({"step": position.step, "values": dict(asked.values)})
                control.answer(asked.id, True, step=position.step)


def _without_later(changes: Iterable[Mapping[str, Any]], step: int, newer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an earlier attempt changed after `step` is not repeated where it was asked for anew."""
    kept = []
    for entry in changes:
        values = {k: v for k, v in entry["values"].items() if entry["step"] <= step or k not in newer}
        if values:
            kept.append({**entry, "values": values})
    return kept
