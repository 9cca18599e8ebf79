"""A checkpoint that stands is told as soon as anybody looks, and what is wrong with one where it is looked for."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch

from common.folder import Pair
from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.failures import Fenced, Stopped
from trainyard.trainer.keeping import Keeping
from trainyard.trainer.processes import World


@pytest.fixture
def keeping(attempt, tmp_path):
    checkpoints = Checkpoints(tmp_path / "out", "me", attempt.pair, attempt.fence.check, 0)
    checkpoints.claim()
    run = SimpleNamespace(control=attempt.control, report=attempt.report)
    yield Keeping(run, checkpoints, World.alone(torch.device("cpu")), None)
    checkpoints.finishing.settle()


def begin(keeping, later):
    keeping.save(
        3, "step", state=lambda: None, needed=0, write=lambda *_: {}, later=lambda folder: later(folder / "words")
    )


def look_until(keeping, condition):
    late = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < late
        keeping.check()


def test_a_checkpoint_is_told_in_the_middle_of_long_work_and_who_asked_is_answered(attempt, keeping):
    go = threading.Event()
    attempt.command({"id": "c", "command": "checkpoint"})
    attempt.control.poll()
    begin(keeping, lambda path: (go.wait(60), path.write_text("w")))
    keeping.check()
    assert attempt.data("checkpoint") == attempt.data("ack") == []
    go.set()
    look_until(keeping, lambda: attempt.data("ack"))
    (told,) = attempt.data("checkpoint")
    assert (told["step"], told["kind"]) == (3, "step")


def test_a_stop_is_seen_there_when_what_stands_is_told(attempt, keeping):
    begin(keeping, lambda path: path.write_text("w"))
    keeping.checkpoints.finishing._thread.join(60)
    attempt.command({"id": "s", "command": "stop"})
    with pytest.raises(Stopped) as raised:
        keeping.check()
    assert raised.value.saved and len(attempt.data("checkpoint")) == 1


def test_what_is_wrong_with_it_comes_out_there(attempt, keeping):
    begin(keeping, lambda _: attempt.folder.raise_fence(Pair(3)))
    with pytest.raises(Fenced):
        look_until(keeping, lambda: False)
