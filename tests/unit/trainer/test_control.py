"""Commands and signals are wishes, granted where the loop can."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import trainyard
from trainyard.trainer.control import Control
from trainyard.trainer.failures import StopNow, Stopped, exit_of
from trainyard.trainer.processes import World


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


class Votes:
    """What the other processes say."""

    def __init__(self, *others):
        self.others = others

    def any(self, *flags):
        return tuple(mine or other for mine, other in zip(flags, self.others, strict=True))


def test_what_one_process_was_asked_all_do_at_the_same_step(attempt):
    assert attempt.control.agree(Votes(False, False, False, False)) == (False, False)
    attempt.command({"id": "c1", "command": "checkpoint"})
    assert attempt.control.agree(Votes(False, False, False, False)) == (False, True)
    assert attempt.control.agree(Votes(True, False, False, False)) == (True, True)
    with pytest.raises(Stopped, match="another process was asked to"):
        attempt.control.check_together(Votes(True, False, False, False))


def test_a_change_is_taken_once_and_answered_with_its_step(attempt):
    attempt.command({"id": "c1", "command": "change", "values": {"tuning_parameters.learning_rate": 1e-5}})
    alone = World.alone(torch.device("cpu"))
    assert attempt.control.agree(alone) == (False, False)
    (change,) = attempt.control.changes(alone)
    assert (change.id, change.values) == ("c1", {"tuning_parameters.learning_rate": 1e-5})
    assert attempt.control.changes(alone) == []
    attempt.control.answer("c1", True, step=7)
    assert attempt.data("ack")[-1] == {"id": "c1", "ok": True, "step": 7}


def test_a_validation_that_can_be_had_waits_for_the_loop_and_is_taken_once(attempt):
    attempt.control.answer_validations(None)
    attempt.command({"id": "c1", "command": "validate"})
    alone = World.alone(torch.device("cpu"))
    attempt.control.poll()
    assert not attempt.control.validation_wanted, "not before the processes agreed, after an optimiser step"
    attempt.control.agree(alone)
    assert attempt.control.validation_wanted and attempt.data("ack") == []
    assert attempt.control.validations() == ["c1"]
    assert not attempt.control.validation_wanted and attempt.control.validations() == []


def test_a_validation_that_can_t_be_had_is_answered_with_the_reason(attempt):
    attempt.control.answer_validations("the job has no validation_prompt")
    attempt.command({"id": "c1", "command": "validate"})
    attempt.control.poll()
    assert attempt.data("ack") == [{"id": "c1", "ok": False, "message": "the job has no validation_prompt"}]


def test_a_validation_asked_of_the_first_process_is_wanted_in_all(attempt):
    attempt.control.agree(Votes(False, False, False, True))
    assert attempt.control.validation_wanted and attempt.control.validations() == []


def test_commands_and_usr1_are_for_the_first_process(attempt):
    second = Control(attempt.folder.control, attempt.pair, attempt.report, first=False)
    attempt.command({"id": "c1", "command": "stop"})
    second._on_usr1(signal.SIGUSR1, None)
    second.poll()
    assert second.stop is None and not second.checkpoint_wanted and attempt.data("ack") == []


def test_signals_that_came_before_the_handlers_are_not_lost(attempt):
    script = """
import os, signal, sys
from pathlib import Path
from common.folder import Pair
from trainyard.trainer.control import SIGNALS, Control
from trainyard.trainer.reporting import Reporter
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGUSR1)
control = Control(Path("c"), Pair(1), Reporter(Path(sys.argv[1]), lambda: None))
control.listen()
print(control.stop, control.checkpoint_wanted)
control.deafen()
os.kill(os.getpid(), signal.SIGTERM)
"""
    environ = {"PYTHONPATH": str(Path(trainyard.__file__).parents[1])}
    argv = [sys.executable, "-P", "-c", script, str(attempt.own)]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "SIGTERM True\n"), done.stderr


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
    assert time.monotonic() - began < 15
    listening.control.poll()
    assert listening.control.stop


def test_a_second_term_leaves_now(tmp_path):
    script = f"""
import os, signal, sys, time
from pathlib import Path
from common.folder import Pair
from trainyard.trainer import control
from trainyard.trainer.reporting import Reporter
control._SECOND_TERM_AFTER = 2.0
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
    late = time.monotonic() + 30
    while child.poll() is None and time.monotonic() < late:
        child.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert child.wait(timeout=1) == 76
    child.stdout.close()
