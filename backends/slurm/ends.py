"""How a run ended, from Slurm's word and the run's own files: Slurm's word first, then `exit.json`."""

import re
import signal

from attrs import evolve

from backends.runs.reader import end_of
from backends.runs.run import Run
from backends.slurm.rows import Row
from backends.slurm.states import explained, reason_of
from common.backend import RunEnded
from common.exits import REASONS, Exit
from common.job import Reason

_NO_ROOM = re.compile(r"exceeded (job |step )?memory limit|oom[-_ ]kill|out-of-memory handler", re.IGNORECASE)
_FORGOTTEN = "Slurm does not know its job any more, and it left no outcome"
_NO_OUTCOME = "its guard was killed and left no outcome"
_DISK_FULL = "where the job's folder lies, the disk was full or the quota used up: its guard could write nothing there"


def ended(run: Run, claimed: bool, row: Row | None, asked: bool) -> RunEnded:
    """What is told. `asked`: we had Slurm end it, so that `CANCELLED` is our own wish and no word of others."""
    end = end_of(run, _FORGOTTEN if row is None else _NO_OUTCOME)
    if end.code == Exit.DONE and end.reason is None:  # all was done before anything else happened to it
        return end
    if row is None:
        return end
    word = reason_of(row.state)
    if asked and word is Reason.CANCELLED_OUTSIDE:
        word = None
    if word is None and end.reason is Reason.LOST and row.code == Exit.DISK_FULL:  # the guard's: a program's is written
        return evolve(end, reason=Reason.DISK_FULL, code=row.code, explanation=_DISK_FULL)
    if not claimed:
        return _never_began(end, row, word)
    if end.reason is Reason.LOST:
        number = row.signal or _by(row)
        end = evolve(end, reason=None, code=None if number else row.code, signal=number)
    if word is None and end.reason is None and _lacked_memory(end):
        word = Reason.OUT_OF_MEMORY
    said = _said(row) if word is not None and word is not end.reason else None
    return evolve(end, reason=word or end.reason, explanation=said or end.explanation)


def _never_began(end: RunEnded, row: Row, word: Reason | None) -> RunEnded:
    """Slurm's job is over, and no guard ever claimed the attempt."""
    if word is not None:
        return evolve(end, reason=word, explanation=_said(row))
    if row.state == "CANCELLED":
        return evolve(end, reason=None, code=Exit.FENCED, explanation=None)
    if row.state == "COMPLETED":
        said = (
            "its Slurm job ended well, but no run ever claimed the attempt: does TRAINYARD_SLURM_SETUP end the script?"
        )
        return evolve(end, reason=Reason.LOST, explanation=said)
    status = f"signal {row.signal}" if row.signal else f"exit code {row.code}"
    if row.reason == "JobLaunchFailure" or (row.signal and row.signal not in signal.valid_signals()):
        why = f"{row.reason or row.state}, {status}"
        said = f"Slurm could not launch its script ({why}): on the node its folder or its log can't be opened"
        return evolve(end, reason=Reason.REJECTED, explanation=said)
    said = f"its script ended with {status} before the run began; look at TRAINYARD_SLURM_SETUP and at the log"
    return evolve(end, reason=Reason.EXIT_CODE, code=row.code, signal=row.signal, explanation=said)


def _said(row: Row) -> str:
    detail = f", {row.reason}" if row.reason and row.reason != "None" else ""
    return f"the run {explained(row.state)} (Slurm: {row.state}{detail})"


def _by(row: Row) -> int | None:
    """The signal that a script's shell turned into an exit code, where nothing else is known of its end."""
    return int(signal.SIGKILL) if row.code in (0, None) or row.code == 128 + signal.SIGKILL else None


def _lacked_memory(end: RunEnded) -> bool:
    """Slurm kills a job over its memory by the log's word alone where it has no control groups."""
    known = end.code in REASONS or end.code == Exit.DONE
    return not known and _NO_ROOM.search(end.log_tail or "") is not None
