"""How long a diffusion run goes, how fast, and how often it saves and reports."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from attrs import define, evolve, fields_dict

from schemas.diffusion import Options
from trainyard.trainer import pace
from trainyard.trainer.again import handed_on
from trainyard.trainer.diffusion.data.epochs import Epochs
from trainyard.trainer.diffusion.state import Position
from trainyard.trainer.failures import ConfigError, DataError
from trainyard.trainer.run import Run
from trainyard.trainer.schedule import Shape, warmup_steps


@define(kw_only=True)
class Pace(pace.Pace):
    """As the options say; epochs may differ in length, where data sets begin or end on the way."""

    epochs: Epochs

    @classmethod
    def of(cls, options: Options, epochs: Epochs) -> "Pace":
        """As the options say."""
        return cls(
            epochs=epochs,
            in_epoch=len(epochs),
            lr_scheduler=options.lr_scheduler,
            warmup_steps=options.lr_warmup_steps or None,
            warmup_ratio=options.lr_warmup_ratio,
            shape=Shape(options.lr_num_cycles, options.lr_power, options.lr_end),
            learning_rate=options.learning_rate,
            max_steps=options.max_train_steps or None,
            num_epochs=options.num_train_epochs,
            save_steps=options.checkpoint_step_interval or None,
            logging_steps=options.logging_steps,
            eval_steps=None,
            fixed=("eval_steps",),
        )

    def change(self, values: Mapping[str, Any]) -> None:
        """As of every pace; raises `ConfigError` too where the data sets end before the run would."""
        before = {name: getattr(self, name) for name in fields_dict(pace.Pace)}
        super().change(values)
        try:
            self.epochs.at(self.total - 1)
        except DataError as e:
            for name, value in before.items():
                setattr(self, name, value)
            raise ConfigError(f"{', '.join(values)}: {e}") from e

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        if self.max_steps:
            return self.max_steps
        whole = int(self.num_epochs)
        share = self.num_epochs - whole
        more = -(-self.epochs.steps(whole) * share // 1) if share else 0
        return max(1, self.epochs.start(whole) + int(more))


def begun(run: Run, options: Options, position: Position, epochs: Epochs) -> Pace:
    """The pace of a run that stands at `position`, with what was changed until then.

    Raises `DataError` where the data sets end before the run does.
    """
    changes = handed_on(run.claim).get("changes", run.spec.changes)
    found = Pace.of(options, epochs)
    position.changes = list(_possible(changes, found, run))
    found.catch_up(position.changes, position.step)
    total = found.total
    if total > 1 and warmup_steps(total, found.warmup_steps, found.warmup_ratio) >= total:
        run.report.log(
            f"extra_parameters.lr_warmup_steps: all {total} steps warm up, and none comes to the learning rate of "
            f"{found.learning_rate:g}",
            level="warning",
        )
    return found


def _possible(changes: Iterable[Mapping[str, Any]], pace: Pace, run: Run) -> Iterator[dict[str, Any]]:
    """The changes that can be, one after the other; any other is told and left out."""
    trial = evolve(pace)
    for change in changes:
        try:
            trial.change(change["values"])
            yield dict(change)
        except ConfigError as e:
            run.report.log(f"the change after step {change['step']} is left out: {e}", level="warning")
