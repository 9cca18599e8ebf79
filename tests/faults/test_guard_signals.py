"""Signals, grace and deadline of a run that is guarded."""

import fcntl
import json
import signal
import time

import pytest

from tests.faults.conftest import UNTIL_GO, Guarded

WAITS = "trap 'echo got TERM; exit 75' TERM; trap 'echo got USR1' USR1; echo ready; while :; do sleep 0.02; done"
COUNTS = f"trap 'echo got TERM' TERM; trap 'echo got USR1' USR1; echo ready; {UNTIL_GO}; exit 75"


def change(minutes: float, attempt: str = "1.0") -> str:
    record = {"format": 1, "attempt": attempt, "id": "c", "command": "change", "values": {"deadline_minutes": minutes}}
    return json.dumps(record) + "\n"


def stop(attempt: str = "1.0") -> str:
    return json.dumps({"format": 1, "attempt": attempt, "id": "s", "command": "stop", "why": "lost"}) + "\n"


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


def test_a_stop_line_is_the_sigterm_of_a_program_that_reads_no_lines(guarded: Guarded) -> None:
    guarded.spec(engine="command")
    guarded.shell(WAITS)
    guarded.until("ready")
    (guarded.job / "control.jsonl").write_text(stop("2.0") + stop())
    assert guarded.code() == 75
    assert "reason" not in guarded.exit()
    assert "a `stop` line came (lost): SIGTERM is passed on, SIGKILL follows in 60 s" in guarded.log()
    assert "killed" not in guarded.log()


def test_a_sigterm_that_comes_after_its_stop_line_is_no_second_one_but_the_next_is(guarded: Guarded) -> None:
    guarded.spec(engine="command")
    process = guarded.shell(COUNTS)
    guarded.until("ready")
    with (guarded.job / "control.jsonl").open("a") as file:
        file.write(stop())
        file.flush()
        process.send_signal(signal.SIGHUP)  # ignored, but the guard looks at the file
        guarded.until("got TERM")
        file.write(stop())
    process.terminate()
    guarded.until("SIGTERM came: the program has had it, for the `stop` line")
    assert guarded.log().count("got TERM") == 1
    process.terminate()
    guarded.until(lambda: guarded.log().count("got TERM") == 2)
    guarded.go()
    assert guarded.code() == 75
    assert guarded.log().count("got TERM") == 2


def test_a_stop_line_after_a_sigterm_says_nothing_new(guarded: Guarded) -> None:
    guarded.spec(engine="command")
    process = guarded.shell(COUNTS)
    guarded.until("ready")
    process.terminate()
    guarded.until("got TERM")
    (guarded.job / "control.jsonl").write_text(stop())
    for times in (1, 2):  # between the two it has read the file
        process.send_signal(signal.SIGUSR1)
        guarded.until(lambda times=times: guarded.log().count("got USR1") == times)
    guarded.go()
    assert guarded.code() == 75
    assert guarded.log().count("got TERM") == 1
    assert "line" not in guarded.log()


def test_a_program_that_reads_stop_lines_itself_gets_no_signal_for_one_but_the_grace(guarded: Guarded) -> None:
    guarded.spec(engine="text")
    process = guarded.shell(COUNTS)
    guarded.until("ready")
    (guarded.job / "control.jsonl").write_text(stop())
    process.send_signal(signal.SIGHUP)
    guarded.until("a `stop` line came (lost): the program reads it too, SIGKILL follows in 60 s")
    assert "got TERM" not in guarded.log()
    process.terminate()
    guarded.until("got TERM")
    guarded.go()
    assert guarded.code() == 75


@pytest.mark.parametrize("engine", ["command", "text"])
def test_a_program_that_ignores_a_stop_line_is_killed_after_the_grace(guarded: Guarded, engine: str) -> None:
    guarded.spec(engine=engine)
    process = guarded.shell("trap '' TERM; echo ready; sleep 60", options=("--grace", "0.2"))
    guarded.until("ready")
    (guarded.job / "control.jsonl").write_text(stop())
    process.send_signal(signal.SIGHUP)
    assert guarded.code() == 128 + 9
    assert guarded.exit()["signal"] == 9 and "reason" not in guarded.exit()
    assert "the grace of 0.2 s is over: sh (" in guarded.log()
