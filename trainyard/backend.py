"""What the author of a backend imports (docs/BACKENDS.md).

The interface and its values; how to read a run's job folder, wherever it runs (`claimed`, `Reader`, `Told`, `end_of`,
`tell`); and, where runs are on the service's own machine, how to start and end their guards (`start_guard`,
`guard_lives`, `stop_run`, `end_run`, `reap`).
"""

from typing import Any

from backends.local.client import end as end_run
from backends.local.client import on_its_way as guard_lives
from backends.local.client import reap, start_guard
from backends.local.client import stop as stop_run
from backends.runs.commands import record_of, tell
from backends.runs.events import Told
from backends.runs.reader import Reader, end_of
from backends.runs.run import Run, claimed
from common.backend import (
    INTERFACE_VERSION,
    BackendContext,
    BackendEvent,
    BaseTrainerBackend,
    Capacity,
    Change,
    Checkpoint,
    Command,
    Cursor,
    DumpStacks,
    Handle,
    JobSpec,
    NoOptions,
    RunAck,
    RunBegan,
    RunDetail,
    RunEnded,
    RunRestarted,
    Stop,
    Validate,
)
from common.errors import BackendFull, BackendRefused, BackendUnavailable
from common.folder import JobFolder, Pair
from common.job import Job, Reason
from common.settings import Settings
from common.storage import with_job
from schemas.converter import unstructure
from schemas.limits import Range
from schemas.secrets import without_masks
from schemas.train import TrainRequest, resolve
from schemas.values import FieldError, FieldWarning

__all__ = [
    "INTERFACE_VERSION",
    "BackendContext",
    "BackendEvent",
    "BackendFull",
    "BackendRefused",
    "BackendUnavailable",
    "BaseTrainerBackend",
    "Capacity",
    "Change",
    "Checkpoint",
    "Command",
    "Cursor",
    "DumpStacks",
    "FieldError",
    "FieldWarning",
    "Handle",
    "Job",
    "JobFolder",
    "JobSpec",
    "NoOptions",
    "Pair",
    "Range",
    "Reader",
    "Reason",
    "Run",
    "RunAck",
    "RunBegan",
    "RunDetail",
    "RunEnded",
    "RunRestarted",
    "Settings",
    "Stop",
    "Told",
    "TrainRequest",
    "Validate",
    "claimed",
    "end_of",
    "end_run",
    "guard_lives",
    "reap",
    "record_of",
    "resolved",
    "start_guard",
    "stop_run",
    "tell",
    "with_job",
]


def resolved(request: TrainRequest) -> dict[str, Any]:
    """The document that a run is handed as `JobSpec.request`: every default filled in, every secret left out."""
    whole: dict[str, Any] = without_masks(unstructure(resolve(request)))
    return whole
