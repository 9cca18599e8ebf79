"""Every state that Slurm has is mapped."""

import pytest

from backends.slurm.states import Stage, explained, is_known, reason_of, stage, waiting

#: JOB STATE CODES of squeue's manual, with those of newer versions.
MANUAL = """BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PENDING
PREEMPTED RUNNING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED SIGNALING SPECIAL_EXIT STAGE_OUT
STOPPED SUSPENDED TIMEOUT EXPEDITING LAUNCH_FAILED POWER_UP_NODE RECONFIG_FAIL UPDATE_DB"""


@pytest.mark.parametrize("state", MANUAL.split())
def test_every_state_of_the_manual_is_known(state: str) -> None:
    assert is_known(state)


def test_what_is_over_has_a_reason_and_a_sentence_or_leaves_both_to_the_run() -> None:
    over = [state for state in MANUAL.split() if stage(state) is Stage.OVER]
    assert len(over) == 9
    assert {state for state in over if reason_of(state) is None} == {"COMPLETED", "FAILED"}
    assert all((reason_of(state) is None) == (explained(state) is None) for state in over)


def test_a_job_that_another_cluster_took_is_not_over() -> None:
    assert stage("REVOKED") is Stage.RUNS


def test_a_job_that_completes_or_that_nobody_knows_is_not_over() -> None:
    assert stage("COMPLETING") is Stage.RUNS
    assert stage("SOMETHING_NEW") is Stage.RUNS
    assert not is_known("SOMETHING_NEW")
    assert stage("REQUEUED") is Stage.WAITS


def test_why_a_job_waits_is_said_in_words_and_with_slurms_own() -> None:
    assert waiting("Resources") == "waits in Slurm for free resources (Resources)"
    assert (
        waiting("(ReqNodeNotAvail, UnavailableNodes:n1)") == "waits in Slurm for a node that is away (ReqNodeNotAvail)"
    )
    assert waiting("QOSMaxCpuPerUserLimit") == "waits in Slurm: QOSMaxCpuPerUserLimit"
