"""The kinds of events, one frozen class each (contract train.md, 4); the envelope is `common.job.Event`."""

from collections.abc import Mapping
from typing import ClassVar

from attrs import evolve, field, fields, frozen

from common.job import Phase, Reason
from schemas.converter import structure


class BadEvent(ValueError):
    """A run's event does not fit its type; `path` and `message` say where and why."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message = path, message


@frozen(kw_only=True)
class Body:
    """What happened; `extra` keeps whatever a newer trainer says beyond the known fields."""

    type: ClassVar[str]
    always: ClassVar[frozenset[str]] = frozenset()
    extra: Mapping[str, object] = field(factory=dict)

    def data(self) -> dict[str, object]:
        """The event's `data`; a known field without a value is left out unless its class lists it in `always`."""
        known = {a.name: getattr(self, a.name) for a in fields(type(self)) if a.name != "extra"}
        return {k: v for k, v in known.items() if v is not None or k in self.always} | dict(self.extra)

    def message(self) -> str:
        """One line for people."""
        return self.type.removeprefix("job.")

    @classmethod
    def from_run(cls, data: Mapping[str, object]) -> "Body":
        """The body for what a run said; unknown keys are kept. Raises `BadEvent`."""
        names = {a.name for a in fields(cls)} - {"extra"}
        done = structure({k: v for k, v in data.items() if k in names}, cls)
        if done.value is None:
            raise BadEvent(f"data.{done.errors[0].path}", done.errors[0].message)
        return evolve(done.value, extra={k: v for k, v in data.items() if k not in names})


@frozen(kw_only=True)
class JobQueued(Body):
    """The job was accepted, or set going again."""

    type: ClassVar[str] = "job.queued"
    always: ClassVar[frozenset[str]] = frozenset({"resumed_from"})
    resumed_from: int | None = None
    changes: Mapping[str, object] | None = None

    def message(self) -> str:
        return "queued" if self.resumed_from is None else f"queued, goes on from step {self.resumed_from}"


@frozen(kw_only=True)
class JobSubmitted(Body):
    """The backend took the job."""

    type: ClassVar[str] = "job.submitted"
    always: ClassVar[frozenset[str]] = frozenset({"backend_job_id"})
    backend: str
    backend_job_id: str | None = None

    def message(self) -> str:
        return f"handed to {self.backend}" + (f" as {self.backend_job_id}" if self.backend_job_id else "")


@frozen(kw_only=True)
class JobRunning(Body):
    """The run began."""

    type: ClassVar[str] = "job.running"


@frozen(kw_only=True)
class JobPhase(Body):
    """The job turned to another part of its work."""

    type: ClassVar[str] = "job.phase"
    phase: Phase

    def message(self) -> str:
        return str(self.phase)


@frozen(kw_only=True)
class JobProgress(Body):
    """An optimiser step was reported."""

    type: ClassVar[str] = "job.progress"
    step: int
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    tokens_per_second: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None

    def message(self) -> str:
        of = f" of {self.total_steps}" if self.total_steps else ""
        return f"step {self.step}{of}" + (f", loss {self.loss:.4g}" if self.loss is not None else "")


@frozen(kw_only=True)
class JobLog(Body):
    """The trainer said something on purpose."""

    type: ClassVar[str] = "job.log"
    line: str | None = None

    def data(self) -> dict[str, object]:
        return ({} if self.line is None else {"message": self.line}) | dict(self.extra)

    def message(self) -> str:
        return self.line or "log"

    @classmethod
    def from_run(cls, data: Mapping[str, object]) -> "JobLog":
        line = data.get("message")
        return cls(line=None if line is None else str(line), extra={k: v for k, v in data.items() if k != "message"})


@frozen(kw_only=True)
class JobCheckpoint(Body):
    """A complete checkpoint was written."""

    type: ClassVar[str] = "job.checkpoint"
    step: int
    uri: str
    bytes: int | None = None
    kind: str = "step"

    def message(self) -> str:
        return f"checkpoint at step {self.step}"


@frozen(kw_only=True)
class JobValidation(Body):
    """Held-out data or samples were evaluated."""

    type: ClassVar[str] = "job.validation"
    step: int
    path: str | None = None
    uri: str | None = None
    metrics: Mapping[str, object] | None = None

    def message(self) -> str:
        shown = ", ".join(f"{k} {v:.4g}" for k, v in (self.metrics or {}).items() if isinstance(v, int | float))
        return f"validation at step {self.step}" + (f": {shown}" if shown else "")


@frozen(kw_only=True)
class JobArtifact(Body):
    """A result was written."""

    type: ClassVar[str] = "job.artifact"
    step: int | None = None
    path: str | None = None
    uri: str | None = None

    def message(self) -> str:
        return f"wrote {self.uri or self.path or 'an artifact'}"


@frozen(kw_only=True)
class JobStalled(Body):
    """No progress was seen for too long."""

    type: ClassVar[str] = "job.stalled"
    always: ClassVar[frozenset[str]] = frozenset({"last_step"})
    seconds: float
    last_step: int | None = None

    def message(self) -> str:
        return f"no progress for {self.seconds:.0f} s"


@frozen(kw_only=True)
class JobChanged(Body):
    """A change of the running job took hold, or was refused."""

    type: ClassVar[str] = "job.changed"
    always: ClassVar[frozenset[str]] = frozenset({"step"})
    request: Mapping[str, object]
    old: Mapping[str, object]
    new: Mapping[str, object]
    step: int | None = None
    error: str | None = None

    def message(self) -> str:
        return f"change refused: {self.error}" if self.error else f"changed {', '.join(self.new)}"


@frozen(kw_only=True)
class JobRetrying(Body):
    """The run ended by no fault of its own and is queued again."""

    type: ClassVar[str] = "job.retrying"
    always: ClassVar[frozenset[str]] = frozenset({"not_before", "resumed_from"})
    reason: Reason
    not_before: str | None = None
    resumed_from: int | None = None

    def message(self) -> str:
        return f"tried again after {self.reason}"


@frozen(kw_only=True)
class JobPaused(Body):
    """The job gave its devices back and waits to be resumed."""

    type: ClassVar[str] = "job.paused"
    always: ClassVar[frozenset[str]] = frozenset({"step"})
    step: int | None = None

    def message(self) -> str:
        return "paused" if self.step is None else f"paused at step {self.step}"


@frozen(kw_only=True)
class JobSucceeded(Body):
    """The run did all that was asked."""

    type: ClassVar[str] = "job.succeeded"
    always: ClassVar[frozenset[str]] = frozenset({"step", "final_uri"})
    step: int | None = None
    final_uri: str | None = None

    def message(self) -> str:
        return "succeeded" + (f": {self.final_uri}" if self.final_uri else "")


@frozen(kw_only=True)
class JobFailed(Body):
    """The run ended without its result."""

    type: ClassVar[str] = "job.failed"
    always: ClassVar[frozenset[str]] = frozenset({"exit_code", "signal", "log_tail"})
    reason: Reason
    exit_code: int | None = None
    signal: int | None = None
    log_tail: str | None = None
    explanation: str | None = None

    def message(self) -> str:
        how = f"exit code {self.exit_code}" if self.exit_code is not None else ""
        how = f"signal {self.signal}" if self.signal is not None else how
        return f"failed ({self.reason})" + (f": {self.explanation or how}" if self.explanation or how else "")


@frozen(kw_only=True)
class JobCancelled(Body):
    """The run was ended by a wish from outside."""

    type: ClassVar[str] = "job.cancelled"
    always: ClassVar[frozenset[str]] = frozenset({"step"})
    reason: Reason = Reason.CANCELLED
    step: int | None = None

    def message(self) -> str:
        return "cancelled" if self.step is None else f"cancelled at step {self.step}"


KINDS: Mapping[str, type[Body]] = {kind.type: kind for kind in Body.__subclasses__()}

LIFECYCLE = frozenset(
    f"job.{name}"
    for name in (
        *("queued", "submitted", "running", "checkpoint", "retrying", "paused", "changed", "stalled"),
        *("succeeded", "failed", "cancelled"),
    )
)
"""What a webhook gets where no filter is given (contract train.md, 5)."""

_RUN_KINDS = {kind.type.removeprefix("job."): kind for kind in KINDS.values()}
RUN_TYPES = frozenset({"phase", "progress", "log", "checkpoint", "validation", "artifact"})
"""What a run may say of itself (contract trainer.md, 3); anything else it says is kept as `job.log`."""


def run_event(kind: str, data: Mapping[str, object]) -> Body:
    """The body for what a run said. An unknown `kind` becomes a `job.log` that keeps it; raises `BadEvent`."""
    if kind not in RUN_TYPES:
        return JobLog(line=kind, extra={"type": kind} | dict(data))
    return _RUN_KINDS[kind].from_run(data)
