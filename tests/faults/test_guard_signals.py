"""Signals, grace and deadline of a run that is guarded."""

import fcntl
import json
import time

import pytest

from tests.faults.conftest import UNTIL_GO, Guarded

WAITS = "trap 'echo got TERM; exit 75' TERM; trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done"


def change(minutes: float, attempt: str = "1.0") -> str:
    record = {"format": 1, "attempt": attempt, "id": "c", "command": "change", "values": {"deadline_minutes": minutes}}
    return json.dumps(record) + "\n"


def test_the_lock_is_held_while_the_run_lives(guarded: Guarded) -> None:
    guarded.shell(WAITS)
    guarded.until("ready")
    with (guarded.folder() / "lock").open("rb") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        guarded.started[0].terminate()
        guarded.code()
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)


def test_term_and_usr1_reach_the_program(guarded: Guarded) -> None:
    process = guarded.shell(WAITS)
    guarded.until("ready")
    process.send_signal(10)
    guarded.until("got USR1")
    process.terminate()
    assert guarded.code() == 75
    assert "reason" not in guarded.exit()
    assert "SIGTERM came: SIGTERM is passed on, SIGKILL follows in 60 s" in guarded.log()
    assert "killed" not in guarded.log()


def test_a_wish_does_not_kill_a_program_that_knows_nothing_of_it(guarded: Guarded) -> None:
    process = guarded.shell(f"echo ready; {UNTIL_GO}")
    guarded.until("ready")
    process.send_signal(10)
    guarded.until("SIGUSR1 not passed on: ")
    guarded.go()
    assert guarded.code() == 0


def test_the_deadline_stops_the_run_with_its_reason(guarded: Guarded) -> None:
    guarded.spec(deadline_minutes=0.2 / 60)
    guarded.shell("exec sleep 60")
    assert guarded.code() == 128 + 15
    assert (guarded.exit()["signal"], guarded.exit()["reason"]) == (15, "time_limit")
    assert "the deadline of 0.00333333 min is over" in guarded.log()


def test_a_program_that_ignores_the_deadline_is_killed_after_the_grace(guarded: Guarded) -> None:
    guarded.spec(deadline_minutes=60)
    guarded.shell("trap '' TERM; echo ready; sleep 60", options=("--grace", "0.2"))
    guarded.until("ready")
    (guarded.job / "control.jsonl").write_text(change(0.001))
    assert guarded.code() == 128 + 9
    assert (guarded.exit()["signal"], guarded.exit()["reason"]) == (9, "time_limit")
    assert "the grace of 0.2 s is over: sh (" in guarded.log()


def test_a_changed_deadline_holds_for_the_running_program(guarded: Guarded) -> None:
    guarded.spec(deadline_minutes=60)
    guarded.shell(WAITS)
    guarded.until("ready")
    with (guarded.job / "control.jsonl").open("a") as file:
        file.write(change(0.0001, "2.0") + change(0.001))
    began = time.monotonic()
    assert guarded.code() == 75
    assert time.monotonic() - began < 20
    assert (guarded.exit()["code"], guarded.exit()["reason"]) == (75, "time_limit")
