"""What the end of a run means (contract trainer.md, 4)."""

import pytest

from common.backend import RunEnded
from common.job import Reason, Wish
from service.outcome import outcome


@pytest.mark.parametrize(
    ("ended", "wanted", "kind", "reason"),
    [
        (RunEnded(code=0), Wish.RUN, "job.succeeded", None),
        (RunEnded(code=0), Wish.CANCEL, "job.succeeded", None),
        (RunEnded(code=75), Wish.CANCEL, "job.cancelled", Reason.CANCELLED),
        (RunEnded(signal=9), Wish.CANCEL, "job.cancelled", Reason.CANCELLED),
        (RunEnded(code=75), Wish.RUN, "job.failed", Reason.KILLED),
        (RunEnded(code=76), Wish.RUN, "job.failed", Reason.KILLED),
        (RunEnded(code=75, reason=Reason.TIME_LIMIT), Wish.RUN, "job.failed", Reason.TIME_LIMIT),
        (RunEnded(code=75, reason=Reason.PREEMPTED), Wish.RUN, "job.failed", Reason.PREEMPTED),
        (RunEnded(code=75, reason=Reason.CANCELLED_OUTSIDE), Wish.RUN, "job.cancelled", Reason.CANCELLED_OUTSIDE),
        (RunEnded(signal=15), Wish.RUN, "job.failed", Reason.KILLED),
        (RunEnded(code=0, signal=9), Wish.CANCEL, "job.cancelled", Reason.CANCELLED),
        (RunEnded(code=3), Wish.RUN, "job.failed", Reason.EXIT_CODE),
        (RunEnded(code=64), Wish.RUN, "job.failed", Reason.CONFIG),
        (RunEnded(code=65), Wish.RUN, "job.failed", Reason.DATA),
        (RunEnded(code=66), Wish.RUN, "job.failed", Reason.MODEL),
        (RunEnded(code=69), Wish.RUN, "job.failed", Reason.CREDENTIALS),
        (RunEnded(code=70), Wish.RUN, "job.failed", Reason.INTERNAL),
        (RunEnded(code=71), Wish.RUN, "job.failed", Reason.OUT_OF_MEMORY),
        (RunEnded(code=72), Wish.RUN, "job.failed", Reason.NAN_LOSS),
        (RunEnded(code=74), Wish.RUN, "job.failed", Reason.DISK_FULL),
        (RunEnded(reason=Reason.LOST), Wish.RUN, "job.failed", Reason.LOST),
    ],
)
def test_the_reason_is_the_tables_unless_the_service_had_a_wish_or_the_guard_its_deadline(ended, wanted, kind, reason):
    body = outcome(ended, wanted, "text")
    assert (body.type, getattr(body, "reason", None)) == (kind, reason)


def test_every_non_zero_code_of_a_command_is_its_own():
    for code in (65, 75, 143):
        assert outcome(RunEnded(code=code), Wish.RUN, "command").data()["reason"] == Reason.EXIT_CODE
    assert outcome(RunEnded(code=70), Wish.RUN, "command").message() == "failed (exit_code): exit code 70"


def test_a_command_that_leaves_when_a_pause_is_wished_is_paused_whatever_its_code():
    assert outcome(RunEnded(code=143), Wish.PAUSE, "command").type == "job.paused"
    assert outcome(RunEnded(code=143), Wish.PAUSE, "text").type == "job.failed"
    assert outcome(RunEnded(code=0), Wish.PAUSE, "command").type == "job.succeeded"


@pytest.mark.parametrize("reason", [Reason.LOST, Reason.PREEMPTED, Reason.NODE_FAILURE, Reason.STALLED])
def test_a_run_that_is_lost_while_a_pause_is_wished_is_paused_as_it_would_have_been_tried_again(reason):
    assert outcome(RunEnded(reason=reason, step=9), Wish.PAUSE, "text", saved=7).data() == {"step": 7}
    lost = outcome(RunEnded(reason=reason, step=9), Wish.PAUSE, "text")
    assert (lost.type, lost.data()) == ("job.paused", {"step": None})
    assert outcome(RunEnded(code=65), Wish.PAUSE, "text").type == "job.failed"


def test_a_failure_explains_its_code_and_keeps_the_end_of_the_log():
    body = outcome(RunEnded(code=65, log_tail="line 7 is no JSON"), Wish.RUN, "text")
    assert body.message() == "failed (data): the data can't be used"
    assert body.data()["log_tail"] == "line 7 is no JSON"
