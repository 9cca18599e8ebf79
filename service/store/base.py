"""The store's interface and values.

The promise of every store: an event's id becomes visible only after all smaller ones; what a call returned is durable;
a job's row is the fold of its events.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import field, frozen

from common.backend import Cursor, Handle
from common.event import Body
from common.job import Job, Reason, Status, Wish


@frozen
class Scope:
    """Whose jobs a query may see; None = everybody's."""

    owner: str | None = None
    tenant: str | None = None


EVERYTHING = Scope()
SERVICE_OWNER = "service"
#: Before the number of a secret that a newer one replaced: kept only to be masked where it was written before. No path
#: of a document begins so, JSON with a NUL is refused.
REPLACED = "\0replaced."


@frozen(kw_only=True)
class NewJob:
    """A job to be accepted. Texts are JSON; `hooks` maps a target to the event types that it gets."""

    uid: str
    job_id: str
    backend: str
    priority: int
    lane: str
    labels: Mapping[str, str]
    document: str
    spec: str
    warnings: str
    hooks: Mapping[str, Sequence[str]]
    secrets: Mapping[str, str]
    owner: str = SERVICE_OWNER
    tenant: str = SERVICE_OWNER


@frozen(kw_only=True)
class JobRecord:
    """A job's row: the fold of its events, and what the service keeps beside it."""

    job: Job
    seq: int
    version: int
    wanted: Wish
    detail: str | None
    handle: Handle | None
    not_before: float | None
    lane: str
    warnings: str
    hooks: Mapping[str, Sequence[str]]
    document: str = ""
    spec: str = ""
    changes: str = "[]"


@frozen(kw_only=True)
class Changes:
    """What an append changes in the row beside the fold; None leaves a column as it is. Texts are JSON."""

    wanted: Wish | None = None
    handle: Handle | None = None
    not_before: float | None = None
    detail: str | None = None
    lane: str | None = None
    spec: str | None = None
    warnings: str | None = None
    changes: str | None = None
    #: Added to the job's secrets, by path.
    secrets: Mapping[str, str] = field(factory=dict)
    #: The run of this attempt is over, and another attempt has not begun.
    without_run: bool = False


@frozen(slots=True)
class StoredEvent:
    """A committed event: `text` is the JSON that is served; `told`: just now, and somebody is to be told of it."""

    id: int
    uid: str
    type: str
    text: str
    ends: bool
    told: bool = False


@frozen(kw_only=True)
class Filters:
    """What `GET /train` may filter by; several statuses are alternatives, labels must all hold."""

    statuses: tuple[str, ...] = ()
    backend: str | None = None
    labels: tuple[tuple[str, str], ...] = ()


@frozen(kw_only=True)
class Delivery:
    """A delivery that is due: one event for one target of one job."""

    id: int
    uid: str
    job_id: str
    target: str
    type: str
    webhook_id: str
    created: float
    tries: int
    event: str


@frozen(kw_only=True)
class Attempted:
    """How one try of a delivery went and what follows: `state` delivered, dead, or pending again at `next_at`."""

    at: str
    seconds: float
    state: str
    status: int | None = None
    error: str | None = None
    next_at: float = 0.0
    switch_off: bool = False


@frozen(kw_only=True)
class Counts:
    """Numbers for limits and metrics."""

    jobs: Mapping[str, int] = field(factory=dict)
    events: int = 0
    deliveries: Mapping[str, int] = field(factory=dict)


Publish = Callable[[Sequence[StoredEvent]], None]


class Store(ABC):
    """Everything that outlives the process."""

    @abstractmethod
    async def add_job(self, new: NewJob) -> tuple[JobRecord, bool]:
        """Accept a job, with its first event and deliveries, in one transaction; True when it is new.

        The same `job_id` with the same document gives the job that exists; another one raises `Conflict`.
        """

    @abstractmethod
    async def same(self, job_id: str, document: str) -> JobRecord | None:
        """The job that was accepted from the same document, if there is one."""

    @abstractmethod
    async def append(
        self,
        uid: str,
        bodies: Sequence[Body],
        *,
        attempt: int | None = None,
        cursor: Cursor | None = None,
        changes: Changes | None = None,
        if_version: int | None = None,
        urgent: bool = False,
    ) -> Job:
        """Append events and fold them into the row, with their source's cursor, in one transaction.

        `attempt` None means the present one. Raises `StaleEvent`, `IllegalMove`, `NotFound`, and `Conflict` when
        `if_version` is given and the row has moved on; what a run reports and logs does not count.
        """

    @abstractmethod
    async def set_detail(self, uid: str, detail: str | None) -> None:
        """The one part of a job that changes without an event."""

    @abstractmethod
    async def job(self, job_id: str, scope: Scope = EVERYTHING) -> JobRecord:
        """Raises `NotFound`."""

    @abstractmethod
    async def job_by_uid(self, uid: str) -> JobRecord:
        """Raises `NotFound`."""

    @abstractmethod
    async def jobs(self, scope: Scope, filters: Filters, before: int | None, limit: int) -> list[JobRecord]:
        """Newest first, without documents and specs; `before` is the `seq` of the last one seen."""

    @abstractmethod
    async def to_adopt(self, after: int, limit: int) -> list[JobRecord]:
        """Live jobs that a backend took, or whose cancelling is unfinished, by acceptance, from behind `after`."""

    @abstractmethod
    async def last_accepted(self) -> int:
        """The `seq` of the newest job; 0 when there is none."""

    @abstractmethod
    async def lanes(self) -> list[str]:
        """The lanes that have queued jobs which no backend took yet."""

    @abstractmethod
    async def waiting(self, lane: str, now: float, limit: int, without: Collection[str] = ()) -> list[JobRecord]:
        """The first jobs of a lane by priority, then age, that may start now; those of the uids `without` left out."""

    @abstractmethod
    async def events(self, uid: str | None, after: int, limit: int) -> list[StoredEvent]:
        """Oldest first; `uid` None means all jobs."""

    @abstractmethod
    async def event_bounds(self) -> tuple[int, int]:
        """The oldest and the newest id that is kept; (0, 0) when there is none."""

    @abstractmethod
    async def told(self, after: int, newest: int) -> set[str]:
        """The uids of the jobs with events whose ids are greater than `after` and not greater than `newest`."""

    @abstractmethod
    async def checkpoints(self, uid: str) -> list[str]:
        """A job's `job.checkpoint` events, as served, oldest first."""

    @abstractmethod
    async def metrics(self, uid: str, after: int, limit: int) -> list[str]:
        """`job.progress` events by step, from behind `after`; of a repeated step the newest attempt's."""

    @abstractmethod
    async def cursor(self, uid: str, attempt: int) -> Cursor | None:
        """How far the attempt's source was read."""

    @abstractmethod
    async def submissions(self, uid: str) -> list[tuple[int, str]]:
        """The attempts that a backend took, and which one, oldest first."""

    @abstractmethod
    async def stalled(self, uid: str, attempt: int) -> bool:
        """Whether a stall of this attempt was told."""

    @abstractmethod
    async def retries(self, uid: str) -> list[Reason]:
        """Why the job was tried again since it was last queued, newest first."""

    @abstractmethod
    async def secrets(self, uid: str) -> dict[str, str]:
        """A job's secrets by path, in clear."""

    @abstractmethod
    async def due_deliveries(self, now: float, limit: int) -> list[Delivery]:
        """Deliveries at the head of their line whose time has come, longest due first."""

    @abstractmethod
    async def next_delivery(self) -> float | None:
        """When the next delivery is due."""

    @abstractmethod
    async def delivery_tried(self, delivery: Delivery, result: Attempted) -> None:
        """Record a try; what ended makes room for the next in its line."""

    @abstractmethod
    async def counts(self) -> Counts:
        """Numbers for limits and metrics."""

    @property
    @abstractmethod
    def writes_waiting(self) -> int:
        """Writes that are not committed yet."""

    @abstractmethod
    async def check(self) -> None:
        """Write and read something; raises what is wrong."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what waits and close."""


def is_end(status: str) -> bool:
    """Whether a stored status is an end."""
    return status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
