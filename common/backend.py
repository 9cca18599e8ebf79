"""What a backend is: the one class that a platform team implements (docs/ARCHITECTURE.md, "A backend")."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from attrs import field, frozen

from common.clock import Clock
from common.devices import DevicePool
from common.event import Body
from common.job import Job, Reason
from common.settings import Settings
from common.storage import local_path
from schemas.train import TrainRequest
from schemas.values import FieldError, FieldWarning

INTERFACE_VERSION = 1
CAPABILITIES = frozenset(
    {"checkpoint_now", "validate_now", "pause", "change", "resume", "dump_stacks", "multi_node", "logs"}
)
"""What a backend may be able to do beyond running jobs and ending them."""


@frozen
class NoOptions:
    """A backend without keys of its own in `extra_parameters`."""


@frozen(kw_only=True)
class JobSpec:
    """A request made ready to run: plain values, so that it can be stored, shown and tested.

    `lane` names what the job competes for on its backend: jobs of one lane start in strict order. `needs` counts what
    it takes of `Capacity.free`. `folder`: whether the run needs a job folder. `request` is the resolved document
    without secrets. `log` is a local folder that the service keeps `train.log`, `metrics.jsonl` and `events.jsonl` in,
    or None.
    """

    engine: str
    argv: tuple[str, ...] = ()
    request: Mapping[str, object] = field(factory=dict)
    options: Mapping[str, object] = field(factory=dict)
    lane: str = ""
    needs: Mapping[str, int] = field(factory=dict)
    folder: bool = True
    output: str | None = None
    log: str | None = None
    threads: int = 1
    deadline_minutes: float | None = None
    #: Changes of earlier attempts that the run repeats at their steps: `{"step", "values"}`; told at its submission.
    changes: tuple[Mapping[str, object], ...] = ()
    #: Those that it does not repeat, for the manifest: `request` has them already, or they hold no more.
    recorded: tuple[Mapping[str, object], ...] = ()
    warnings: tuple[FieldWarning, ...] = ()


@frozen(kw_only=True)
class Handle:
    """Where a submitted job is found again; `data` is the backend's own and must be JSON."""

    uid: str
    job_id: str
    attempt: int
    backend_job_id: str | None = None
    data: Mapping[str, object] = field(factory=dict)


@frozen(kw_only=True)
class Cursor:
    """How far a source of events was read; stored in the transaction of the event (contract trainer.md, 3)."""

    file: str
    n: int = 0
    offset: int = 0


@frozen(kw_only=True)
class RunBegan:
    """The run claimed its attempt and is at work."""


@frozen(kw_only=True)
class RunDetail:
    """A sentence on where the job stands (why it waits, for instance); changes `detail` and makes no event."""

    text: str


@frozen(kw_only=True)
class RunAck:
    """The run answered a command; `step` is the one that a change holds from."""

    command_id: str
    ok: bool
    text: str = ""
    step: int | None = None


@frozen(kw_only=True)
class RunEnded:
    """The run is over and nothing of it is left.

    `reason` is the backend's or the guard's word where there is one; the service decides what it means for the job.
    """

    code: int | None = None
    signal: int | None = None
    reason: Reason | None = None
    step: int | None = None
    final_uri: str | None = None
    log_tail: str | None = None
    explanation: str | None = None


@frozen(kw_only=True)
class RunRestarted:
    """The backend itself began the run again, or is about to (a requeue): `handle` is that of the job's next attempt.

    `reason` is why the run before it ended. The iterator ends; the next `watch` is of the new handle.
    """

    reason: Reason
    handle: Handle


@frozen(kw_only=True)
class BackendEvent:
    """One thing that a backend saw, and how far its source was read with it."""

    what: Body | RunBegan | RunDetail | RunAck | RunRestarted | RunEnded
    cursor: Cursor | None = None
    at: str | None = None


@frozen(kw_only=True)
class Capacity:
    """What a backend has. `free` None: it takes every job at once and queues by itself.

    `reason` says why it can't take jobs now; `total` and `free` are counts by the names that `JobSpec.needs` uses.
    """

    total: Mapping[str, int] = field(factory=dict)
    free: Mapping[str, int] | None = None
    devices: tuple[Mapping[str, object], ...] = ()
    reason: str | None = None


@frozen(kw_only=True)
class Checkpoint:
    """Save a checkpoint now and go on."""

    id: str


@frozen(kw_only=True)
class Validate:
    """Run a validation now and go on."""

    id: str


@frozen(kw_only=True)
class Change:
    """Let these values hold from the next step on."""

    id: str
    values: Mapping[str, object]


@frozen(kw_only=True)
class Stop:
    """Save a checkpoint and leave."""

    id: str
    why: str


@frozen(kw_only=True)
class DumpStacks:
    """Write the stack of every process of the run into its log."""

    id: str


Command = Checkpoint | Validate | Change | Stop | DumpStacks


@frozen(kw_only=True)
class BackendContext:
    """What the service lends to a backend."""

    settings: Settings
    clock: Clock
    devices: DevicePool

    def job_folder(self, job_id: str) -> Path:
        """A job's folder among the service's own (contract trainer.md, 1)."""
        return self.settings.jobs_dir / job_id


class BaseTrainerBackend(ABC):
    """Runs jobs somewhere.

    Every method may be called again after a crash of the service; none may block the event loop. `BackendUnavailable`
    from any of the async methods means "try later": the job waits with the message as its `detail`.
    """

    interface_version: ClassVar[int] = INTERFACE_VERSION
    name: ClassVar[str]
    simulated: ClassVar[bool] = False
    on_this_machine: ClassVar[bool] = False
    """Whether its runs reach the service at a loopback address; others need `TRAINYARD_PUBLIC_URL` to post events."""
    capabilities: ClassVar[frozenset[str]] = frozenset()
    """Of `CAPABILITIES`; what is not named is a 409."""
    Options: ClassVar[type] = NoOptions
    """An attrs class: this backend's own keys of `extra_parameters`."""

    def __init__(self, context: BackendContext) -> None:
        self.context = context

    async def start(self) -> None:
        """Called before anything else; raises `BackendUnavailable` where the backend can't work now.

        Then it is called again before jobs are handed over, until it returns.
        """
        return

    async def close(self) -> None:
        """Called once at the end; must leave runs alone."""
        return

    @abstractmethod
    def validate_request(self, request: TrainRequest) -> list[FieldError]:
        """All that is wrong with the request here, each with what would run. Returns at once, no long I/O."""

    @abstractmethod
    def build_job_spec(self, request: TrainRequest) -> JobSpec:
        """The spec of a valid request. Pure: same request and configuration, same spec."""

    def job_folder(self, job_id: str) -> Path:
        """Where the folder of a job lies while this backend has it; may differ by backend. Pure."""
        return self.context.job_folder(job_id)

    def can_read(self, uri: str) -> bool:
        """Whether its runs read what lies at a URI or path: asked of a checkpoint before a job goes on here. Pure.

        A path of the service's machine is none of a backend's that works elsewhere, unless it shares the file system.
        """
        return self.on_this_machine or local_path(uri) is None

    @abstractmethod
    async def submit(self, job: Job, attempt: int, spec: JobSpec) -> Handle:
        """Hand the job over and return soon, without waiting for its start.

        May be called again for the same attempt; then the run must not start twice (a run claims its attempt).
        """

    @abstractmethod
    async def find(self, job: Job, attempt: int) -> Handle | None:
        """The handle of an earlier `submit` of this attempt; None only when sure that nothing was handed over."""

    @abstractmethod
    def watch(self, handle: Handle, cursor: Cursor | None) -> AsyncIterator[BackendEvent]:
        """What happens to the run from `cursor` on; ends after a `RunEnded` or `RunRestarted`.

        The call itself takes up what the handle holds (devices), at once, so that a restarted service gives nothing
        away twice; the iterator may be left at any time and asked for again.
        """

    @abstractmethod
    async def cancel(self, handle: Handle, grace: float) -> None:
        """Ask the run to save and leave, and end it after `grace` seconds. Returns at once; calm when it is gone."""

    async def send(self, handle: Handle, command: Command) -> None:
        """Pass a command to the run, which answers with an ack. Called only with the capability for it."""
        raise TypeError(f"backend {self.name!r} takes no commands, got {type(command).__name__}")

    def refuses_change(self, handle: Handle, values: Mapping[str, object]) -> str | None:
        """Why a live run can't take new values, by their paths, and what it could; None: it can. Pure."""
        return None

    @abstractmethod
    async def capacity(self) -> Capacity:
        """What the backend has now; quick, called before each round of submissions."""


class BackendClass(Protocol):
    """What an entry point of the group `trainyard.backends` names."""

    name: str

    def __call__(self, context: BackendContext) -> BaseTrainerBackend: ...
