"""Why a run ends before its time: one class a reason, and the translation of what other people's code raises."""

import errno
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from common.errors import TrainyardError
from common.exits import Exit


class RunEnded(TrainyardError):
    """The run ends without its result; `exit` says how (docs/TRAINER.md, "Signals and exit codes")."""

    exit: ClassVar[Exit] = Exit.INTERNAL
    #: All processes of the run come to it at the same point, so that none has to end because of another.
    together: bool = False


class ConfigError(RunEnded):
    """The job's document asks for something that can't be run; `problems`: all that was found, each with its path."""

    exit = Exit.CONFIG

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class DataError(RunEnded):
    """The data can't be trained on."""

    exit = Exit.DATA


class ModelError(RunEnded):
    """The base model is missing or can't be read."""

    exit = Exit.MODEL


class SourceRefused(RunEnded):
    """A source can't be reached, or refused the credentials."""

    exit = Exit.CREDENTIALS


class OutOfMemory(RunEnded):
    """There was not enough memory."""

    exit = Exit.OUT_OF_MEMORY


class BeginAgain(OutOfMemory):
    """One of several processes ran out of memory: all of them begin again, with what is `handed` on."""

    def __init__(self, message: str, handed: Mapping[str, Any]) -> None:
        self.handed = handed
        super().__init__(message)


class NanLoss(RunEnded):
    """The loss is not a number any more."""

    exit = Exit.NAN_LOSS
    together = True


class DiskFull(RunEnded):
    """There is not enough free disk."""

    exit = Exit.DISK_FULL


class Fenced(RunEnded):
    """A newer run of this job took over, or the job is over."""

    exit = Exit.FENCED


class Stopped(RunEnded):
    """The run was asked to stop; `saved` tells whether a complete checkpoint holds what was reached."""

    exit = Exit.STOPPED_UNSAVED

    def __init__(self, saved: bool, why: str, together: bool = False) -> None:
        self.saved, self.together = saved, together
        kept = "after a checkpoint" if saved else "with nothing to save yet"
        super().__init__(f"stopped {kept} ({why})")


class Bereaved(RunEnded):
    """This process ends because another one of the run did, with `code` where that is one of ours."""

    def __init__(self, first: str, code: int | None) -> None:
        self.left_with = Exit(code) if code in set(Exit) else Exit.INTERNAL
        super().__init__(first)


class StopNow(BaseException):
    """A stop that came while nothing needed saving; no library's `except Exception` may swallow it."""


def exit_of(error: RunEnded) -> Exit:
    """The code to leave with."""
    if isinstance(error, Stopped) and error.saved:
        return Exit.STOPPED_SAVED
    return error.left_with if isinstance(error, Bereaved) else error.exit


_AT = re.compile(r"(datasets|[a-z_]+(?:\[\d+\]|\.[a-z_0-9]+)+): (.+)", re.DOTALL)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FULL_WORDS = re.compile(
    r"no space left on device|disk quota exceeded|os error 28\b|file too large|PytorchStreamWriter failed writing",
    re.IGNORECASE,
)
_MEMORY_WORDS = re.compile(r"not enough memory|out of memory|cannot allocate memory|unable to allocate", re.IGNORECASE)
#: Names of what HTTP clients raise when nobody answers.
UNREACHED = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"),
        *("ReadTimeout", "ReadError", "WriteError", "PoolTimeout", "RemoteProtocolError"),
    }
)
_REFUSED = {
    "GatedRepoError": "it is gated: access must be asked for on its hub page, and a token given that has it",
    "RepositoryNotFoundError": "no such model on the hub, or it is private and the token may not see it",
    "DisabledRepoError": "the hub disabled this model",
    "BadRequestError": "the hub refused the request",
    "OfflineModeIsEnabled": "the hub may not be asked: HF_HUB_OFFLINE is set",
    "IncompleteSnapshotError": "the hub can't be reached, whatever the token, and the cache has only a part of it",
    "LocalEntryNotFoundError": "the hub can't be reached, whatever the token, and it is not in the cache",
}
_MISSING = {
    "RevisionNotFoundError": "the model has no such revision",
    "RemoteEntryNotFoundError": "the model lacks a file that is needed",
    "EntryNotFoundError": "the model lacks a file that is needed",
}


def explained(error: BaseException) -> RunEnded | None:
    """What an exception from other people's code means for the run, or None when it is a fault of ours."""
    for cause in chain(error):
        if isinstance(cause, RunEnded):
            return cause
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError" or _memory(cause):
            return OutOfMemory(
                f"out of memory: {first_line(cause)}; a smaller micro_batch_size or max_sequence_length needs less"
            )
        if (isinstance(cause, OSError) and cause.errno in _FULL) or _FULL_WORDS.search(str(cause)):
            return DiskFull(f"no disk space: {first_line(cause)}")
    return None


def from_source(error: Exception, what: str) -> RunEnded:
    """What a failure to load `what` means: out of memory, disk full, refused, or missing."""
    known = explained(error)
    if known is not None:
        return known
    names = [type(cause).__name__ for cause in chain(error)]
    for name in names:
        if name in _REFUSED:
            return SourceRefused(f"{what}: {_REFUSED[name]}")
        if name in UNREACHED:
            return SourceRefused(f"{what}: the hub can't be reached")
        if name in _MISSING:
            return ModelError(f"{what}: {_MISSING[name]}")
    for cause in chain(error):
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if status is not None:
            why = ": the token is not good for this" if status in (401, 403) else ""
            return SourceRefused(f"{what}: the hub answered {status}{why}")
    return ModelError(f"{what}: {first_line(error)}")


def placed(problem: str) -> dict[str, str]:
    """A message, and apart from it the path of the field that it begins with; "" where it begins with none."""
    found = _AT.fullmatch(problem)
    path, message = found.groups() if found else ("", problem)
    return {"path": path, "message": message}


def chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, what caused it, what caused that."""
    seen: set[int] = set()
    present: BaseException | None = error
    while present is not None and id(present) not in seen:
        seen.add(id(present))
        yield present
        present = present.__cause__ or present.__context__


def first_line(error: BaseException) -> str:
    """The first line that says something, else the name of the class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else type(error).__name__


def _memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError | OSError) and bool(_MEMORY_WORDS.search(str(error)))
