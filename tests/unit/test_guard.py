"""The guard's parts, called in this process; whole guards are run in tests/faults."""

import ctypes
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Timer

import pytest

from trainyard import guard


def lines(path: Path, *records: object) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def change(attempt: object, values: object) -> dict[str, object]:
    return {"format": 1, "attempt": attempt, "id": "c1", "command": "change", "values": values}


def test_only_the_first_claim_of_an_attempt_wins(tmp_path: Path) -> None:
    folder = tmp_path / "attempts" / "1.0"
    assert [guard.claim(folder), guard.claim(folder)] == [True, False]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert guard.claim(folder.with_name("1.1"))


def test_a_claim_in_a_folder_that_is_gone_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        guard.claim(tmp_path / "gone" / "attempts" / "1.0")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("present", "shut_out", "after"),
    [(None, False, "2.1"), ("2.0", False, "2.1"), ("2.1", False, "2.1"), ("2.2", True, "2.2"), ("10.0", True, "10.0")],
)
def test_the_fence_only_rises_and_compares_numbers(
    tmp_path: Path, present: str | None, shut_out: bool, after: str
) -> None:
    fence = tmp_path / "attempt"
    if present:
        fence.write_text(present + "\n")
    assert guard.fenced(tmp_path, (2, 1)) is shut_out
    assert fence.read_text().strip() == after
    assert sorted(tmp_path.iterdir()) == [fence, tmp_path / "attempt.lock"]


def test_the_deadline_follows_the_changes_of_its_own_attempt_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.jsonl"
    control = guard.Control(path, (2, 0))
    assert control.deadline(60) == 60
    lines(path, change("1.0", {"deadline_minutes": 1}), change("2.1", {"deadline_minutes": 2}))
    assert control.deadline(60) == 60
    lines(path, change("2.0", {"deadline_minutes": 90}), change("2.0", {"learning_rate": 0.1}))
    assert control.deadline(60) == 90
    assert control.deadline(90) == 90
    lines(path, change(2, {"deadline_minutes": None}))
    assert control.deadline(90) is None


def test_half_a_line_is_read_when_it_is_whole_and_a_bad_one_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "control.jsonl"
    control = guard.Control(path, (1, 0))
    whole = json.dumps(change("1.0", {"deadline_minutes": 5})) + "\n"
    path.write_text("no JSON\n[1]\n" + json.dumps(change("1.0", {"deadline_minutes": "x"})) + "\n" + whole[:30])
    assert control.deadline(60) == 60
    with path.open("a") as file:
        file.write(whole[30:])
    assert control.deadline(60) == 5


def test_a_stop_is_for_its_own_attempt_and_changes_no_deadline(tmp_path: Path) -> None:
    path = tmp_path / "control.jsonl"
    control = guard.Control(path, (2, 0))
    line = {"format": 1, "id": "s", "command": "stop", "values": 3}
    lines(path, {**line, "attempt": "1.0"}, {**line, "attempt": "2.1"}, {**line, "command": "checkpoint", "attempt": 2})
    assert (control.deadline(60), control.stop) == (60, None)
    lines(path, {**line, "attempt": "2.0"}, change("2.0", {"deadline_minutes": 5}))
    assert (control.deadline(60), control.stop) == (5, "the service wants it")


@pytest.mark.parametrize("value", [0, -1, True, "5", float("nan")])
def test_a_deadline_must_be_a_number_above_zero(value: object) -> None:
    with pytest.raises(ValueError, match="deadline_minutes must be a number > 0"):
        guard.minutes(value)


def test_a_line_of_the_guard_begins_on_a_line_of_its_own(tmp_path: Path) -> None:
    log = guard.TrainLog(tmp_path / "train.log", 1 << 20)
    os.write(log.descriptor, b"half a line")
    log.say("first")
    log.say("second")
    assert (tmp_path / "train.log").read_text() == "half a line\n── guard: first\n── guard: second\n"


def test_the_stacks_of_the_next_process_are_asked_for_when_the_last_ones_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = guard.TrainLog(tmp_path / "train.log", 1 << 20)
    log.say("the stacks of slow (1):")
    late = Timer(0.3, os.write, (log.descriptor, b"its stacks\n"))
    late.start()
    monkeypatch.setattr(guard, "DUMPING", 60.0)
    log.settle(log.size())
    log.say("the stacks of quick (2):")
    assert (tmp_path / "train.log").read_text().splitlines()[1] == "its stacks"
    late.join()
    monkeypatch.setattr(guard, "DUMPING", 0.01)
    log.settle(log.size())


@pytest.mark.parametrize("heeded", [True, False])
def test_a_signal_that_is_blocked_for_a_moment_only_is_not_heeded(
    monkeypatch: pytest.MonkeyPatch, heeded: bool
) -> None:
    program = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
for line in sys.stdin:
    signal.pthread_sigmask(signal.SIG_UNBLOCK if "unblock" in line else signal.SIG_BLOCK, [signal.SIGUSR1])
    print(flush=True)
"""
    own = [sys.executable, "-I", "-S", "-c", program]
    with subprocess.Popen(own, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def tell(word: str) -> None:
            assert process.stdin and process.stdout
            print(word, file=process.stdin, flush=True)
            process.stdout.readline()

        tell("block")
        monkeypatch.setattr(time, "sleep", lambda _: tell("block" if heeded else "unblock"))
        assert guard.heeds(process.pid, signal.SIGUSR1) is heeded
        process.communicate()


def test_past_its_limit_the_log_keeps_head_and_tail(tmp_path: Path) -> None:
    path = tmp_path / "train.log"
    log = guard.TrainLog(path, 1 << 18)
    for number in range(40_000):
        os.write(log.descriptor, f"line {number:07}\n".encode())
        if number % 5_000 == 0:
            log.trim()
    log.trim()
    content = path.read_bytes()
    assert content.startswith(b"line 0000000\n")
    assert b"line 0039999\n" in content[-400:]
    assert b"guard: this log is over its limit of 262144 bytes: bytes 65536 to" in content
    assert len(content) > 40_000 * 13
    assert path.stat().st_blocks * 512 <= 1 << 18


def test_a_file_system_that_keeps_the_middle_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        def fallocate(self, *_: object) -> int:
            ctypes.set_errno(errno.EOPNOTSUPP)
            return -1

    monkeypatch.setattr(guard, "libc", Refusing())
    log = guard.TrainLog(tmp_path / "train.log", 1 << 16)
    os.write(log.descriptor, b"x" * (1 << 18))
    log.trim()
    log.trim()
    assert (tmp_path / "train.log").read_bytes().count(b"can't be dropped here: Operation not supported") == 1


def test_the_space_of_exit_json_is_taken_at_the_claim(tmp_path: Path) -> None:
    guard.sign(tmp_path)
    reserved = (tmp_path / ".exit.json").stat()
    assert reserved.st_size == 512
    assert guard.conclude(tmp_path, None, 9, "time_limit")
    assert (tmp_path / "exit.json").stat().st_ino == reserved.st_ino
    outcome = json.loads((tmp_path / "exit.json").read_text())
    assert outcome.pop("at").endswith("Z")
    assert outcome == {"format": 1, "code": None, "signal": 9, "reason": "time_limit"}


def test_an_outcome_that_can_not_be_written_is_told_on_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert not guard.conclude(tmp_path / "gone", 0, None, None)
    assert capfd.readouterr().err.count("can't write") == 5
