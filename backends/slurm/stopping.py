"""What we asked Slurm to do to a run, noted in the job folder: a service that comes after must know it."""

import time
from contextlib import suppress
from pathlib import Path

from backends.runs.run import Run
from common.folder import STACKS, JobFolder, Pair


def asked(folder: JobFolder, pair: Pair) -> float | None:
    """How many seconds ago the run was asked to leave (SIGTERM, once: a second would mean "without a checkpoint")."""
    try:
        return max(time.time() - _note(folder, pair).stat().st_mtime, 0.0)
    except OSError:
        return None


def note_asked(folder: JobFolder, pair: Pair) -> None:
    _note(folder, pair).touch(0o600)


def was_cancelled(folder: JobFolder, pair: Pair) -> bool:
    """Whether we had Slurm end its job, so that its `CANCELLED` is our own doing."""
    return _cancelled(folder, pair).exists()


def note_cancelled(folder: JobFolder, pair: Pair) -> None:
    """Before it is done: what was noted and then not done is asked for again."""
    _cancelled(folder, pair).touch(0o600)


def ask_for_stacks(run: Run) -> None:
    """Of the processes on all machines but the first, where the guard has a signal for it."""
    with suppress(FileNotFoundError):  # one process, or none yet
        (run.claim / "ranks" / STACKS).touch(0o600)


def _note(folder: JobFolder, pair: Pair) -> Path:
    return folder.path / f"asked_to_stop.{pair}"


def _cancelled(folder: JobFolder, pair: Pair) -> Path:
    return folder.path / f"cancelled.{pair}"
