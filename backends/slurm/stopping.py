"""What we asked Slurm to do to a run, noted in the job folder: a service that comes after must know it."""

import os
import time
from contextlib import suppress
from pathlib import Path

from backends.runs.run import Run
from common.folder import STACKS, JobFolder, Pair

_ARRIVED = "arrived"


def asked(folder: JobFolder, pair: Pair) -> float | None:
    """How many seconds ago the run was asked to leave (SIGTERM, once: a second would mean "without a checkpoint")."""
    try:
        return max(time.time() - _note(folder, pair).stat().st_mtime, 0.0)
    except OSError:
        return None


def note_asked(folder: JobFolder, pair: Pair) -> None:
    """Before it is done: Slurm may pass a signal on whose call never came back to us."""
    note = _note(folder, pair)
    note.touch(0o600)
    _by_our_clock(note, time.time())


def note_arrived(folder: JobFolder, pair: Pair) -> None:
    """The run has surely heard of it."""
    note = _note(folder, pair)
    note.write_text(_ARRIVED)
    _by_our_clock(note, time.time())


def forget_asked(folder: JobFolder, pair: Pair) -> None:
    """It was surely not done."""
    _note(folder, pair).unlink(missing_ok=True)


def ask_by_line(folder: JobFolder, pair: Pair) -> None:
    """Once, where it is not sure that the SIGTERM arrived: to a run that has it the line says nothing new.

    Our engines read it; to any other program its guard passes it on as the SIGTERM.
    """
    if not _note(folder, pair).read_text():
        folder.command(pair, {"id": f"stop-{pair}", "command": "stop", "why": "it is not sure that SIGTERM arrived"})
        note_arrived(folder, pair)


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


def _by_our_clock(note: Path, now: float) -> None:
    """A file server's clock may be another one; where a time can't be set, its own is good enough."""
    with suppress(OSError):
        os.utime(note, (now, now))


def _note(folder: JobFolder, pair: Pair) -> Path:
    return folder.path / f"asked_to_stop.{pair}"


def _cancelled(folder: JobFolder, pair: Pair) -> Path:
    return folder.path / f"cancelled.{pair}"
