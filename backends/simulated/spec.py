"""What a simulated job is asked to play, and the plan computed from it (contract train.md, 1)."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from attrs import frozen

from common.backend import BackendEvent, Cursor, Handle, RunBegan, RunEnded
from common.event import JobPhase, JobProgress
from common.job import Phase, Reason
from schemas.limits import Range

LOG_LINE = "simulated step {step:>8} line {line:>6} of attempt {attempt:>4}\n"
_BEFORE_STEPS = 2
LOG_LINE_BYTES = len(LOG_LINE.format(step=0, line=0, attempt=0))


@frozen(kw_only=True)
class Options:
    """The keys of `extra_parameters` that `simulated` has of its own."""

    duration_seconds: Annotated[float, Range(ge=0, le=31_536_000)] = 1.0
    steps: Annotated[int, Range(ge=0, le=1_000_000)] = 10
    outcome: Literal["succeeded", "failed", "hang", "lost"] = "succeeded"
    log_lines_per_step: Annotated[int, Range(ge=0, le=10_000)] = 0
    devices: bool = False


@frozen(kw_only=True)
class Plan:
    """A run as it will go, fixed by its start; so it goes on the same after a restart of the service."""

    start: float
    options: Options
    deadline_minutes: float | None = None

    @classmethod
    def of(cls, handle: Handle) -> "Plan":
        data: Mapping[str, Any] = handle.data
        return cls(
            start=float(data["start"]), options=Options(**data["options"]), deadline_minutes=data["deadline_minutes"]
        )

    def step_time(self, step: int) -> float:
        return self.start + self.options.duration_seconds * step / max(self.options.steps, 1)

    @property
    def deadline(self) -> float:
        return float("inf") if self.deadline_minutes is None else self.start + self.deadline_minutes * 60

    def items(self, seen: int) -> Iterator[tuple[float, BackendEvent]]:
        """Each thing that happens behind the first `seen`, with its time; a run that hangs goes half way and stops."""
        options = self.options
        if seen < 1:
            yield self.start, _event(RunBegan(), 1)
        if seen < _BEFORE_STEPS:
            yield self.start, _event(JobPhase(phase=Phase.TRAINING), _BEFORE_STEPS)
        last = options.steps // 2 if options.outcome == "hang" else options.steps
        for step in range(max(seen - _BEFORE_STEPS, 0) + 1, last + 1):
            yield self.step_time(step), _event(self._progress(step), _BEFORE_STEPS + step)
        if options.outcome != "hang":
            yield self.start + options.duration_seconds, BackendEvent(what=self._end())

    def _progress(self, step: int) -> JobProgress:
        options = self.options
        return JobProgress(
            step=step,
            total_steps=options.steps,
            epoch=round(step / options.steps, 6),
            loss=round(2.0 / (1.0 + step / 10), 6),
            learning_rate=round(2e-4 * (1 - step / options.steps), 12),
            samples_per_second=round(options.steps / options.duration_seconds, 3) if options.duration_seconds else None,
            eta_seconds=round(options.duration_seconds * (1 - step / options.steps), 3),
        )

    def _end(self) -> RunEnded:
        match self.options.outcome:
            case "failed":
                return RunEnded(code=1, log_tail="the simulated run was asked to fail")
            case "lost":
                return RunEnded(reason=Reason.LOST, explanation="the simulated run was asked to be lost")
        return RunEnded(code=0, step=self.options.steps)

    def steps_at(self, now: float) -> int:
        """How many steps are done at a time."""
        return bisect_right(range(1, self.options.steps + 1), now, key=self.step_time)


def _event(what: RunBegan | JobPhase | JobProgress, n: int) -> BackendEvent:
    return BackendEvent(what=what, cursor=Cursor(file="plan", n=n))


def log_text(attempt: int, step: int, lines: int) -> tuple[int, bytes]:
    """The log lines of a step and the offset at which they belong: writing them twice changes nothing."""
    text = "".join(LOG_LINE.format(step=step, line=line, attempt=attempt) for line in range(1, lines + 1))
    return (step - 1) * lines * LOG_LINE_BYTES, text.encode()
