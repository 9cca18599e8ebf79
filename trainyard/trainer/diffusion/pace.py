"""How long a diffusion run goes, how fast, and how often it saves and reports."""

from attrs import define

from schemas.diffusion import Options
from trainyard.trainer import pace
from trainyard.trainer.again import handed_on
from trainyard.trainer.diffusion.data.epochs import Epochs
from trainyard.trainer.diffusion.state import Position
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
    position.changes = [dict(change) for change in changes]
    found = Pace.of(options, epochs)
    found.catch_up(position.changes, position.step)
    total = found.total
    if total > 1 and warmup_steps(total, found.warmup_steps, found.warmup_ratio) >= total:
        run.report.log(
            f"extra_parameters.lr_warmup_steps: all {total} steps warm up, and none comes to the learning rate of "
            f"{found.learning_rate:g}",
            level="warning",
        )
    return found
