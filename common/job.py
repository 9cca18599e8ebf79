"""A job, its states, and the one way that it changes: `job = fold(events)` (contract train.md, 3 and 4)."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from attrs import evolve, field, frozen

from common.errors import IllegalMove, StaleEvent


class Status(StrEnum):
    """Where a job is; the last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDS = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})


class Phase(StrEnum):
    """What a live job is doing."""

    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VALIDATING = "validating"
    PREPARING = "preparing"
    CACHING = "caching"
    TRAINING = "training"
    EVALUATING = "evaluating"
    UPLOADING = "uploading"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"


class Reason(StrEnum):
    """Why a job failed or was cancelled: a closed list."""

    CONFIG = "config"
    DATA = "data"
    MODEL = "model"
    CREDENTIALS = "credentials"
    OUT_OF_MEMORY = "out_of_memory"
    NAN_LOSS = "nan_loss"
    DISK_FULL = "disk_full"
    EXIT_CODE = "exit_code"
    KILLED = "killed"
    PREEMPTED = "preempted"
    NODE_FAILURE = "node_failure"
    BACKEND_UNAVAILABLE = "backend_unavailable"
    TIME_LIMIT = "time_limit"
    COST_LIMIT = "cost_limit"
    STALLED = "stalled"
    LOST = "lost"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    CANCELLED_OUTSIDE = "cancelled_outside"
    INTERNAL = "internal"


class Wish(StrEnum):
    """What the caller wants of a job; stored before it is acted on."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


@frozen
class Move:
    """One row of the state table.

    `sources` holds what the job may be in: a status, None for "there is no job yet", or `(status, phase)` for that
    status in that phase alone. `unless` takes phases out again. `status` and `phase` None mean "stays"; `phase_named`
    means that the event's own data names the phase.
    """

    sources: frozenset[Status | tuple[Status, Phase] | None]
    status: Status | None = None
    phase: Phase | None = None
    unless: frozenset[Phase] = frozenset()
    phase_named: bool = False
    new_attempt: bool = False


_LIVE: frozenset[Status | tuple[Status, Phase] | None] = frozenset({Status.QUEUED, Status.RUNNING})
_RUNNING: frozenset[Status | tuple[Status, Phase] | None] = frozenset({Status.RUNNING})
_QUEUED: frozenset[Status | tuple[Status, Phase] | None] = frozenset({Status.QUEUED})

MOVES: Mapping[str, Move] = {
    "job.queued": Move(
        frozenset({None, Status.FAILED, Status.CANCELLED, (Status.QUEUED, Phase.PAUSED)}),
        Status.QUEUED,
        Phase.WAITING,
        new_attempt=True,
    ),
    "job.submitted": Move(_QUEUED, Status.QUEUED, Phase.WAITING, unless=frozenset({Phase.PAUSED})),
    "job.running": Move(_QUEUED, Status.RUNNING, Phase.PREPARING),
    "job.phase": Move(_LIVE, phase_named=True),
    "job.progress": Move(_RUNNING),
    "job.log": Move(_RUNNING),
    "job.checkpoint": Move(_RUNNING),
    "job.validation": Move(_RUNNING),
    "job.artifact": Move(_RUNNING),
    "job.stalled": Move(_RUNNING),
    "job.changed": Move(_LIVE),
    "job.retrying": Move(_LIVE, Status.QUEUED, Phase.WAITING, new_attempt=True),
    "job.paused": Move(_LIVE, Status.QUEUED, Phase.PAUSED),
    "job.succeeded": Move(_RUNNING, Status.SUCCEEDED),
    "job.failed": Move(_LIVE, Status.FAILED),
    "job.cancelled": Move(_LIVE, Status.CANCELLED),
}


@frozen(kw_only=True)
class Event:
    """A committed fact about a job, as it is served."""

    id: int
    job_id: str
    sequence: int
    attempt: int
    type: str
    status: Status
    phase: Phase | None
    message: str
    time: str
    data: Mapping[str, object]

    @property
    def ends(self) -> bool:
        return self.status in ENDS


@frozen(kw_only=True)
class Job:
    """What the events so far make of a job."""

    uid: str
    job_id: str
    backend: str
    priority: int = 0
    labels: Mapping[str, str] = field(factory=dict)
    backend_job_id: str | None = None
    status: Status | None = None
    phase: Phase | None = None
    reason: Reason | None = None
    attempt: int = 0
    progress: Mapping[str, object] | None = None
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    last_event_id: int = 0
    last_sequence: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ENDS


def after(job: Job, kind: str, attempt: int, data: Mapping[str, object]) -> tuple[int, Status, Phase | None]:
    """The attempt, status and phase that an event of `kind` leads to.

    `attempt` is the one that the event speaks of; for an event that begins a new one, the one it follows.

    Raises `StaleEvent` for an older attempt or after an end, `IllegalMove` for every other move that the table lacks.
    """
    move = MOVES.get(kind)
    if move is None:
        raise IllegalMove(f"unknown event type {kind!r}; known: {', '.join(MOVES)}")
    if attempt < job.attempt:
        raise StaleEvent(f"{kind} of attempt {attempt} for job {job.job_id!r}, which is at attempt {job.attempt}")
    allowed = job.status in move.sources and job.phase not in move.unless
    if not allowed and (job.status is None or (job.status, job.phase) not in move.sources):
        error = StaleEvent if job.ended else IllegalMove
        raise error(f"{kind} is no move from {job.status or 'nothing'}/{job.phase or '-'} (job {job.job_id!r})")
    status = move.status or job.status
    assert status is not None
    phase = None if status in ENDS else Phase(str(data["phase"])) if move.phase_named else move.phase or job.phase
    return (job.attempt + 1 if move.new_attempt else job.attempt), status, phase


def fold(job: Job, event: Event) -> Job:
    """The job after the event. Pure; raises as `after`, and for a sequence that does not go on by one."""
    begins = MOVES[event.type].new_attempt if event.type in MOVES else False
    attempt, status, phase = after(job, event.type, event.attempt - begins, event.data)
    if event.sequence != job.last_sequence + 1:
        raise IllegalMove(f"sequence {event.sequence} follows {job.last_sequence} (job {job.job_id!r})")
    if (event.attempt, event.status, event.phase) != (attempt, status, phase):
        raise IllegalMove(f"event {event.id} says {event.status}/{event.phase}, the table {status}/{phase}")
    values: dict[str, object] = {
        "attempt": attempt,
        "status": status,
        "phase": phase,
        "last_event_id": event.id,
        "last_sequence": event.sequence,
    }
    if begins:
        values |= {"reason": None, "started_at": None, "ended_at": None, "backend_job_id": None}
        values["created_at"] = job.created_at or event.time
        values["backend"] = _named(event.data.get("changes"), "backend", job.backend)
    elif event.type == "job.submitted":
        values |= {"backend_job_id": event.data.get("backend_job_id"), "backend": event.data["backend"]}
    elif event.type == "job.running":
        values["started_at"] = event.time
    elif event.type == "job.progress":
        values["progress"] = event.data
    elif event.type == "job.changed" and event.data.get("error") is None:
        values |= {name: _named(event.data.get("new"), name, getattr(job, name)) for name in ("priority", "labels")}
    elif status in ENDS:
        values["ended_at"] = event.time
        if (reason := event.data.get("reason")) is not None:
            values["reason"] = Reason(str(reason))
    return evolve(job, **values)  # type: ignore[arg-type]


def _named(values: object, name: str, otherwise: object) -> object:
    return values.get(name, otherwise) if isinstance(values, Mapping) else otherwise


def fold_all(job: Job, events: Iterable[Event]) -> Job:
    """`fold` over a whole log."""
    for event in events:
        job = fold(job, event)
    return job


def state_diagram() -> str:
    """The table as a Mermaid diagram; the page that shows it is printed from here."""
    lines = ["stateDiagram-v2"]
    for kind, move in MOVES.items():
        if move.status is None:
            continue
        for source in sorted(move.sources, key=str):
            name = "[*]" if source is None else source[0] if isinstance(source, tuple) else source
            label = f"{kind} (paused)" if isinstance(source, tuple) else kind
            lines.append(f"    {name} --> {move.status}: {label}")
    return "\n".join(lines)
