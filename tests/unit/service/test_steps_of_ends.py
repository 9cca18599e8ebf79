"""The step that a pause or a cancel speaks of, where the run that ended came to none itself."""

import pytest

from common.backend import RunEnded
from common.job import Reason, Wish
from service.outcome import outcome


@pytest.mark.parametrize(
    ("ended", "engine", "step"),
    [
        (RunEnded(code=75, step=9), "text", 9),
        (RunEnded(code=75), "text", 7),
        (RunEnded(code=77), "text", 7),  # withdrawn from a queue before it began
        (RunEnded(code=76, step=0), "text", 7),  # before it had found its checkpoint
        (RunEnded(code=76, step=9), "text", 7),  # nothing holds what it did since
        (RunEnded(signal=9, step=9), "text", 7),
        (RunEnded(code=3, step=9), "command", 9),
        (RunEnded(code=3), "command", 7),  # a program that told nothing
        (RunEnded(signal=9, step=9), "command", 7),
    ],
)
def test_a_paused_job_stands_where_it_goes_on_from(ended, engine, step):
    assert outcome(ended, Wish.PAUSE, engine, saved=7, reached=8).data() == {"step": step}


@pytest.mark.parametrize("engine", ["text", "command"])
def test_a_paused_job_that_nothing_is_known_of_stands_nowhere(engine):
    assert outcome(RunEnded(code=77), Wish.PAUSE, engine).data() == {"step": None}


@pytest.mark.parametrize(
    ("ended", "step"),
    [
        (RunEnded(code=75, step=9), 9),
        (RunEnded(code=75, step=3), 3),  # it had gone back to a checkpoint, and the steps behind are no more
        (RunEnded(code=76, step=0), 8),
        (RunEnded(code=77), 8),
        (RunEnded(signal=9), 8),
    ],
)
def test_a_cancelled_job_keeps_the_step_that_runs_before_came_to(ended, step):
    assert outcome(ended, Wish.CANCEL, "text", saved=7, reached=8).data()["step"] == step
    outside = RunEnded(code=ended.code, signal=ended.signal, step=ended.step, reason=Reason.CANCELLED_OUTSIDE)
    assert outcome(outside, Wish.RUN, "text", saved=7, reached=8).data()["step"] == step


def test_a_job_that_was_cancelled_before_its_first_step_says_what_its_run_said():
    assert outcome(RunEnded(code=76, step=0), Wish.CANCEL, "text").data()["step"] == 0
    assert outcome(RunEnded(code=77), Wish.CANCEL, "text").data()["step"] is None
