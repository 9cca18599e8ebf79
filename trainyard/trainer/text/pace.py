"""How long the run goes, how fast, and how often it reports: what may be changed while it goes on."""

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, fields_dict

from trainyard.trainer import schedule
from trainyard.trainer.again import handed_on
from trainyard.trainer.control import Control
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position

_PART = "tuning_parameters."
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
    #: What stays as it is while this run goes on, though others may change it.
    fixed: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings, in_epoch: int, fixed: tuple[str, ...] = ()) -> "Pace":
        """As the settings say."""
        names = fields_dict(cls).keys() & fields_dict(Settings).keys()
        return cls(in_epoch=in_epoch, fixed=fixed, **{name: getattr(settings, name) for name in names})

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        return schedule.total_steps(self.in_epoch, self.num_epochs, self.max_steps)

    def rate(self, step: int) -> float:
        """The learning rate of a step (0 is the first)."""
        warmup = schedule.warmup_steps(self.total, self.warmup_steps, self.warmup_ratio)
        return schedule.learning_rate(self.lr_scheduler, self.learning_rate, step, self.total, warmup)

    def change(self, values: Mapping[str, Any]) -> None:
        """Let these values, by their path in the document, hold from now on. Raises `ConfigError` for any other."""
        named = {path.removeprefix(_PART): value for path, value in values.items() if path not in _ELSEWHERE}
        if strange := [name for name in named if name not in _CHANGED]:
            raise ConfigError(f"{', '.join(strange)} can't be changed while a run goes on; {', '.join(_CHANGED)} can")
        for name, value in named.items():
            setattr(self, name, value)

    def _check_free(self, values: Mapping[str, Any]) -> None:
        """Raises `ConfigError` for what is fixed in this run."""
        held = [name for name in self.fixed if _PART + name in values]
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


def begun(run: Run, settings: Settings, position: Position, in_epoch: int, fixed: tuple[str, ...] = ()) -> Pace:
    """The pace of a run that stands at `position`, with what was changed until then; of epochs of so many steps."""
    changes = handed_on(run.claim).get("changes", run.spec.changes)
    position.changes = [dict(change) for change in changes]
    pace = Pace.of(settings, in_epoch, fixed)
    pace.catch_up(position.changes, position.step)
    if problem := warmup_problem(settings, pace.total):
        run.report.log(problem, level="warning")
    return pace


def warmup_problem(settings: Settings, total: int) -> str | None:
    """What to say of a warm-up that takes all of a run's `total` steps; the first of them has a rate of 0."""
    if schedule.warmup_steps(total, settings.warmup_steps, settings.warmup_ratio) < total:
        return None
    at = _PART + ("warmup_ratio" if settings.warmup_steps is None else "warmup_steps")
    if total == 1:
        return f"{at}: the only step has a learning rate of 0, so that nothing is learned; leave it out"
    return f"{at}: all {total} steps warm up, and none comes to the learning rate of {settings.learning_rate:g}"


def _without_later(changes: Iterable[Mapping[str, Any]], step: int, newer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What an earlier attempt changed after `step` is not repeated where it was asked for anew."""
    kept = []
    for entry in changes:
        values = {k: v for k, v in entry["values"].items() if entry["step"] <= step or k not in newer}
        if values:
            kept.append({**entry, "values": values})
    return kept
