"""How long a text run goes, how fast, and how often it reports."""

from attrs import define, fields_dict

from trainyard.trainer import pace, schedule
from trainyard.trainer.again import handed_on
from trainyard.trainer.pace import PART
from trainyard.trainer.run import Run
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position


@define(kw_only=True)
class Pace(pace.Pace):
    """As the settings of a text job say."""

    @classmethod
    def of(cls, settings: Settings, in_epoch: int, fixed: tuple[str, ...] = ()) -> "Pace":
        """As the settings say."""
        names = fields_dict(cls).keys() & fields_dict(Settings).keys()
        return cls(in_epoch=in_epoch, fixed=fixed, **{name: getattr(settings, name) for name in names})


def begun(run: Run, settings: Settings, position: Position, in_epoch: int, fixed: tuple[str, ...] = ()) -> Pace:
    """The pace of a run that stands at `position`, with what was changed until then; of epochs of so many steps."""
    changes = handed_on(run.claim).get("changes", run.spec.changes)
    position.changes = [dict(change) for change in changes]
    found = Pace.of(settings, in_epoch, fixed)
    found.catch_up(position.changes, position.step)
    if problem := warmup_problem(settings, found.total):
        run.report.log(problem, level="warning")
    return found


def warmup_problem(settings: Settings, total: int) -> str | None:
    """What to say of a warm-up that takes all of a run's `total` steps; the first of them has a rate of 0."""
    if schedule.warmup_steps(total, settings.warmup_steps, settings.warmup_ratio) < total:
        return None
    at = PART + ("warmup_ratio" if settings.warmup_steps is None else "warmup_steps")
    if total == 1:
        return f"{at}: the only step has a learning rate of 0, so that nothing is learned; leave it out"
    return f"{at}: all {total} steps warm up, and none comes to the learning rate of {settings.learning_rate:g}"
