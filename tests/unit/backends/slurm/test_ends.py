"""How a run ended: Slurm's word first, then its own outcome."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.runs.run import Run
from backends.slurm.ends import ended
from backends.slurm.rows import Row
from common.backend import RunEnded
from common.folder import JobFolder, Pair
from common.job import Reason

KILLED = {"code": None, "signal": 9}


def end(folder: Path, row: dict[str, Any] | None, outcome: Any = None, log: str = "", **how: bool) -> RunEnded:
    """`outcome` False: nothing was claimed; None: claimed, and the guard was killed."""
    run = Run(JobFolder(folder), "ab", Pair(1))
    if outcome is not False:
        run.claim.mkdir(parents=True)
    if outcome:
        (run.claim / "exit.json").write_text(json.dumps(outcome))
    run.folder.log.write_text(log)
    seen = None if row is None else Row(id=1, uid="ab", attempt=1, **row)
    return ended(run, outcome is not False, seen, how.get("asked", False))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("CANCELLED", Reason.CANCELLED_OUTSIDE),
        ("PREEMPTED", Reason.PREEMPTED),
        ("TIMEOUT", Reason.TIME_LIMIT),
        ("NODE_FAIL", Reason.NODE_FAILURE),
        ("OUT_OF_MEMORY", Reason.OUT_OF_MEMORY),
    ],
)
def test_slurms_word_gives_the_reason_and_the_outcome_the_code(tmp_path: Path, state: str, reason: Reason) -> None:
    found = end(tmp_path, {"state": state}, {"code": 75, "signal": None})
    assert (found.reason, found.code) == (reason, 75)
    assert state in (found.explanation or "")
    assert (
        end(tmp_path / "unclaimed", {"state": state}, False).reason is reason
        if (tmp_path / "unclaimed").mkdir() is None
        else None
    )


def test_what_was_done_before_is_done(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "CANCELLED"}, {"code": 0, "signal": None})
    assert (found.code, found.reason) == (0, None)


def test_the_guards_deadline_stays_one(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "FAILED"}, {"code": 75, "signal": None, "reason": "time_limit"})
    assert (found.code, found.reason) == (75, Reason.TIME_LIMIT)


def test_our_own_scancel_is_no_word_of_others(tmp_path: Path) -> None:
    assert end(tmp_path, {"state": "CANCELLED", "status": 15}, None, asked=True).signal == 15
    (tmp_path / "unclaimed").mkdir()
    waited = end(tmp_path / "unclaimed", {"state": "CANCELLED"}, False, asked=True)
    assert (waited.code, waited.reason) == (77, None)


def test_a_killed_guard_is_a_signal(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "FAILED", "status": 9})
    assert (found.code, found.signal, found.reason) == (None, 9, None)


def test_without_an_outcome_slurms_zero_is_no_success(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "COMPLETED", "status": 0})
    assert (found.code, found.signal) == (None, 9)


@pytest.mark.parametrize("outcome", [None, KILLED])
def test_memory_is_told_from_the_log_where_slurm_says_no_more(tmp_path: Path, outcome: Any) -> None:
    line = "slurmstepd: error: Job 7 exceeded memory limit (183152640 > 104857600), being killed"
    assert end(tmp_path, {"state": "FAILED", "status": 9}, outcome, line).reason is Reason.OUT_OF_MEMORY


def test_a_code_of_our_trainers_outweighs_a_line_of_the_log(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "FAILED", "status": 65 << 8}, {"code": 65, "signal": None}, "oom-kill event")
    assert (found.code, found.reason) == (65, None)


def test_a_script_that_ended_before_the_run_began_is_told_with_its_code(tmp_path: Path) -> None:
    found = end(
        tmp_path, {"state": "FAILED", "status": 127 << 8, "reason": "NonZeroExitCode"}, False, "module: not found"
    )
    assert (found.code, found.reason, found.log_tail) == (127, Reason.EXIT_CODE, "module: not found")
    assert "TRAINYARD_SLURM_SETUP" in (found.explanation or "")


@pytest.mark.parametrize("outcome", [False, None])
def test_a_guard_that_could_write_nothing_had_no_disk(tmp_path: Path, outcome: Any) -> None:
    found = end(tmp_path, {"state": "FAILED", "status": 74 << 8, "reason": "NonZeroExitCode"}, outcome)
    assert (found.code, found.reason) == (74, Reason.DISK_FULL)
    assert "quota" in (found.explanation or "")
    assert "TRAINYARD_SLURM_SETUP" not in (found.explanation or "")


def test_a_program_that_leaves_with_the_guards_code_of_a_full_disk_is_told_as_its_own(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "FAILED", "status": 74 << 8}, {"code": 74, "signal": None})
    assert (found.code, found.reason) == (74, None)


def test_a_script_that_slurm_could_not_launch_is_rejected(tmp_path: Path) -> None:
    found = end(tmp_path, {"state": "FAILED", "status": 53, "reason": "JobLaunchFailure"}, False)
    assert found.reason is Reason.REJECTED
    assert "signal 53" in (found.explanation or "")


def test_without_slurms_word_the_outcome_counts_and_without_both_it_is_lost(tmp_path: Path) -> None:
    assert end(tmp_path, None, {"code": 65, "signal": None}).code == 65
    (tmp_path / "none").mkdir()
    found = end(tmp_path / "none", None, False)
    assert (found.code, found.reason) == (None, Reason.LOST)
