"""What a run says, as typed events (contract trainer.md, 3)."""

import pytest

from common.event import KINDS, BadEvent, JobCheckpoint, JobFailed, JobLog, JobProgress, run_event
from common.job import Reason


def test_a_known_event_keeps_its_unknown_keys() -> None:
    body = run_event("progress", {"step": 4, "loss": 0.5, "gpu_memory": 7})
    assert isinstance(body, JobProgress)
    assert body.data() == {"step": 4, "loss": 0.5, "gpu_memory": 7}


def test_an_unknown_type_is_kept_as_a_log_event() -> None:
    body = run_event("telepathy", {"what": "spoons"})
    assert isinstance(body, JobLog)
    assert body.data() == {"message": "telepathy", "type": "telepathy", "what": "spoons"}


def test_a_wrong_value_names_its_path() -> None:
    with pytest.raises(BadEvent, match=r"data\.step: must be an integer"):
        run_event("progress", {"step": "four"})


def test_a_missing_value_names_its_path() -> None:
    with pytest.raises(BadEvent, match=r"data\.uri: is required"):
        run_event("checkpoint", {"step": 4})


def test_a_phase_must_be_one_of_the_list() -> None:
    with pytest.raises(BadEvent, match=r"data\.phase"):
        run_event("phase", {"phase": "dreaming"})


def test_what_the_service_says_has_the_fields_of_the_contract() -> None:
    data = JobFailed(reason=Reason.KILLED, signal=9).data()
    assert data == {"reason": Reason.KILLED, "exit_code": None, "signal": 9, "log_tail": None}


def test_every_message_is_a_line_for_people() -> None:
    assert JobProgress(step=2, total_steps=9, loss=1.23456).message() == "step 2 of 9, loss 1.235"
    assert JobCheckpoint(step=2, uri="/x").message() == "checkpoint at step 2"
    assert all(kind.__doc__ for kind in KINDS.values())
