"""Commands and signals are wishes, granted where the loop can."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trainyard
from trainyard.trainer.failures import StopNow, Stopped, exit_of


@pytest.fixture
def listening(attempt):
    old = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)}
    attempt.control.listen()
    yield attempt
    for number, handler in old.items():
        signal.signal(number, handler)


def test_a_checkpoint_is_answered_when_it_exists(attempt):
    attempt.command({"id": "c1", "command": "checkpoint"})
    attempt.control.poll()
    assert attempt.control.checkpoint_wanted and attempt.data("ack") == []
    attempt.control.saved(7)
    assert attempt.data("ack") == [{"id": "c1", "ok": True, "message": "checkpoint at step 7"}]
    assert not attempt.control.checkpoint_wanted


def test_a_repeated_command_counts_once(attempt):
    for _ in range(3):
        attempt.command({"id": "c1", "command": "stop"})
        attempt.control.poll()
    assert attempt.data("ack") == [{"id": "c1", "ok": True}]


def test_only_lines_of_the_own_attempt_count(attempt):
    attempt.command({"id": "c1", "command": "stop", "attempt": "2.0"})
    attempt.control.poll()
    assert attempt.control.stop is None and attempt.data("ack") == []


def test_half_a_line_waits_for_its_end_and_nonsense_is_passed_over(attempt):
    attempt.command('not json\n[]\n{"format": 1, "attempt": "2.1", "id": "c1", ')
    attempt.control.poll()
    assert attempt.control.stop is None
    attempt.command('"command": "stop"}\n')
    attempt.control.poll()
    assert attempt.control.stop == "stop"


@pytest.mark.parametrize("command", ["change", "validate", "dance"])
def test_what_this_version_lacks_is_answered_with_no(attempt, command):
    attempt.command({"id": "c1", "command": command})
    attempt.control.poll()
    (ack,) = attempt.data("ack")
    assert ack["ok"] is False and ack["message"]


@pytest.mark.parametrize(("saved", "code"), [(None, 76), (3, 75)])
def test_a_stop_leaves_by_what_is_saved(attempt, saved, code):
    attempt.control.saved_step = saved
    attempt.command({"id": "c1", "command": "stop", "why": "pause"})
    with pytest.raises(Stopped, match="stop: pause") as raised:
        attempt.control.check()
    assert exit_of(raised.value) == code


def test_signals_are_kept_for_the_loop(listening):
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    assert listening.control.checkpoint_wanted and listening.control.stop == "SIGTERM"


def stop_in_a_long_call(attempt, how):
    with attempt.control.interruptible():
        if how == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            attempt.command({"id": "c1", "command": "stop"})
        time.sleep(20)


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_long_call_with_nothing_to_save_is_left_at_once(listening, how):
    began = time.monotonic()
    with pytest.raises(StopNow):
        stop_in_a_long_call(listening, how)
    assert time.monotonic() - began < 5
    listening.control.poll()
    assert listening.control.stop


def test_a_second_term_leaves_now(tmp_path):
    script = f"""
import os, signal, sys, time
from pathlib import Path
from common.folder import Pair
from trainyard.trainer import control
from trainyard.trainer.reporting import Reporter
control._SECOND_TERM_AFTER = 0.2
control.Control(Path("c"), Pair(1), Reporter(Path({str(tmp_path)!r}), lambda: None)).listen()
print("ready", flush=True)
time.sleep(60)
time.sleep(60)
"""
    environ = {"PYTHONPATH": str(Path(trainyard.__file__).parents[1])}
    child = subprocess.Popen([sys.executable, "-P", "-c", script], env=environ, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    time.sleep(0.4)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=10) == 76
    child.stdout.close()
