"""Slurm's words for where a job is, and what each means for us."""

from enum import Enum

from common.job import Reason


class Stage(Enum):
    """Where a job of Slurm's is, as far as we care."""

    WAITS = "waits"
    RUNS = "runs"
    OVER = "over"


_WAITS = (
    *("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD", "POWER_UP_NODE"),
    *("LAUNCH_FAILED", "RECONFIG_FAIL"),  # flags of a job that is held after its launch failed
)
#: COMPLETING: it has ended, and something of it may be left on a node.
_RUNS = (
    *("RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED", "RESIZING"),
    *("UPDATE_DB", "EXPEDITING", "REVOKED"),  # the last one: another cluster of the federation has it
)
#: `CANCELLED` and `DEADLINE` are said of jobs that only waited, too.
_HAS_RUN = frozenset(
    {"RUNNING", "COMPLETING", "COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY"}
)
_OVER: dict[str, Reason | None] = {
    "COMPLETED": None,
    "FAILED": None,
    "CANCELLED": Reason.CANCELLED_OUTSIDE,
    "TIMEOUT": Reason.TIME_LIMIT,
    "DEADLINE": Reason.TIME_LIMIT,
    "PREEMPTED": Reason.PREEMPTED,
    "NODE_FAIL": Reason.NODE_FAILURE,
    "BOOT_FAIL": Reason.NODE_FAILURE,
    "OUT_OF_MEMORY": Reason.OUT_OF_MEMORY,
}
_EXPLAINED = {
    "CANCELLED": "was cancelled by somebody else (scancel)",
    "TIMEOUT": "ran into the time limit of its Slurm job",
    "DEADLINE": "could not end by its Slurm deadline",
    "PREEMPTED": "was preempted by a job of higher priority",
    "NODE_FAIL": "lost a node that it ran on",
    "BOOT_FAIL": "could not start, because a node did not boot",
    "OUT_OF_MEMORY": "used more memory than it had asked for (resources.memory_gb)",
}
#: Why a job waits, where Slurm's own word says too little.
_WAITING = {
    "Resources": "for free resources",
    "Priority": "behind jobs of higher priority",
    "None": "to be looked at by the scheduler",
    "BeginTime": "for its begin time (a job that was requeued waits a while)",
    "JobHeldUser": "because it is held (scontrol release)",
    "JobHeldAdmin": "because an administrator holds it (scontrol release)",
    "PartitionNodeLimit": "for more nodes than its partition gives to one job",
    "PartitionTimeLimit": "because its time limit is over the partition's",
    "PartitionConfig": "because its partition has no such node",
    "BadConstraints": "because no node has what it asks for",
    "ReqNodeNotAvail": "for a node that is away",
    "DependencyNeverSatisfied": "for a dependency that can't be met any more",
}


def stage(state: str) -> Stage:
    """Where a job in this state is; a word that nobody knows yet means that it is not over."""
    if state in _WAITS:
        return Stage.WAITS
    return Stage.OVER if state in _OVER else Stage.RUNS


def has_run(state: str) -> bool:
    """Whether a job in this state had nodes, and its script began, or was about to."""
    return state in _HAS_RUN


def is_known(state: str) -> bool:
    return state in _OVER or state in _WAITS or state in _RUNS


def reason_of(state: str) -> Reason | None:
    """Why a job ended, where its state alone says that."""
    return _OVER.get(state)


def explained(state: str) -> str | None:
    """The same for people, after "the run"."""
    return _EXPLAINED.get(state)


def waiting(reason: str) -> str:
    """A sentence on why a job waits."""
    word = reason.strip("()").partition(",")[0] or "None"
    why = _WAITING.get(word)
    return f"waits in Slurm {why} ({word})" if why else f"waits in Slurm: {reason.strip('()')}"
