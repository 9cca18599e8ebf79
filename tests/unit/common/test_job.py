"""The state table and the fold (contract train.md, 4)."""

import itertools

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import IllegalMove, StaleEvent
from common.event import KINDS
from common.job import ENDS, MOVES, Event, Job, Phase, Reason, Status, after, fold, fold_all, state_diagram

FRESH = Job(uid="u", job_id="j", backend="simulated")
DATA = {
    "job.phase": {"phase": "training"},
    "job.submitted": {"backend": "simulated", "backend_job_id": "b-1"},
    "job.progress": {"step": 3, "loss": 1.5},
    "job.failed": {"reason": "data"},
    "job.cancelled": {"reason": "cancelled"},
}


def event_of(job: Job, kind: str, number: int, data: dict | None = None) -> Event:
    data = DATA.get(kind, {}) if data is None else data
    attempt, status, phase = after(job, kind, job.attempt, data)
    return Event(
        id=number,
        job_id="j",
        sequence=job.last_sequence + 1,
        attempt=attempt,
        type=kind,
        status=status,
        phase=phase,
        message=kind,
        time=f"2026-01-01T00:00:00.{number:06d}Z",
        data=data,
    )


def played(*kinds: str) -> Job:
    job = FRESH
    for number, kind in enumerate(kinds, 1):
        job = fold(job, event_of(job, kind, number))
    return job


@given(st.lists(st.sampled_from(sorted(MOVES)), max_size=40))
def test_whatever_is_tried_the_log_that_results_keeps_every_promise(kinds: list[str]) -> None:
    """Moves that the table lacks raise and change nothing; what is left folds to the same job again."""
    job, log = FRESH, []
    for number, kind in enumerate(kinds, 1):
        try:
            made = event_of(job, kind, number)
        except IllegalMove:
            continue
        job = fold(job, made)
        log.append(made)
        assert (job.status in ENDS) == (job.phase is None)
        assert (job.ended_at is not None) == job.ended
    assert job == fold_all(FRESH, log)
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    assert all(a.attempt <= b.attempt for a, b in itertools.pairwise(log))
    assert log == [] or log[0].type == "job.queued"
    for before, then in itertools.pairwise(log):
        assert before.status not in ENDS or then.type == "job.queued"


@given(st.lists(st.sampled_from(sorted(MOVES)), max_size=30), st.sampled_from(sorted(MOVES)))
def test_an_event_of_an_older_attempt_is_always_stale(kinds: list[str], late: str) -> None:
    job = FRESH
    for number, kind in enumerate(kinds, 1):
        try:
            job = fold(job, event_of(job, kind, number))
        except IllegalMove:
            continue
    if job.attempt > 0:
        with pytest.raises(StaleEvent):
            after(job, late, job.attempt - 1, DATA.get(late, {}))


@pytest.mark.parametrize("end", ["job.succeeded", "job.failed", "job.cancelled"])
def test_after_an_end_everything_but_a_new_queueing_is_stale(end: str) -> None:
    job = played("job.queued", "job.submitted", "job.running", end)
    for kind in MOVES:
        if kind == "job.queued" and end != "job.succeeded":
            continue
        with pytest.raises(StaleEvent):
            after(job, kind, job.attempt, DATA.get(kind, {}))


def test_attempts_rise_on_retrying_and_on_every_queueing_but_the_first() -> None:
    assert played("job.queued").attempt == 1
    assert played("job.queued", "job.running", "job.retrying").attempt == 2
    assert played("job.queued", "job.failed", "job.queued").attempt == 2
    assert played("job.queued", "job.paused", "job.queued").attempt == 2


def test_a_failed_job_that_is_queued_again_has_no_reason_and_no_end() -> None:
    job = played("job.queued", "job.running", "job.progress", "job.failed", "job.queued")
    assert (job.status, job.phase, job.reason, job.ended_at, job.started_at) == (
        *(Status.QUEUED, Phase.WAITING),
        *(None, None, None),
    )
    assert job.progress == {"step": 3, "loss": 1.5}


def test_a_paused_job_takes_no_submission() -> None:
    with pytest.raises(IllegalMove):
        after(played("job.queued", "job.paused"), "job.submitted", 1, DATA["job.submitted"])


def test_a_queued_job_cannot_succeed_without_having_run() -> None:
    with pytest.raises(IllegalMove, match=r"job\.succeeded is no move from queued"):
        after(played("job.queued"), "job.succeeded", 1, {})


def test_a_hole_in_the_sequence_is_refused() -> None:
    job = played("job.queued")
    made = event_of(job, "job.running", 7)
    with pytest.raises(IllegalMove, match="sequence 5 follows 1"):
        fold(job, Event(**{**_fields(made), "sequence": 5}))


def test_an_event_that_says_another_status_than_the_table_is_refused() -> None:
    job = played("job.queued")
    made = event_of(job, "job.running", 7)
    with pytest.raises(IllegalMove, match="the table"):
        fold(job, Event(**{**_fields(made), "status": Status.FAILED}))


def test_reason_and_progress_come_from_the_events() -> None:
    job = played("job.queued", "job.running", "job.progress", "job.failed")
    assert (job.reason, job.progress) == (Reason.DATA, {"step": 3, "loss": 1.5})


def test_every_kind_of_event_has_a_row_and_every_row_a_class() -> None:
    assert set(KINDS) == set(MOVES)


def test_the_diagram_shows_every_move_that_changes_the_status() -> None:
    diagram = state_diagram()
    for kind, move in MOVES.items():
        assert (kind in diagram) == (move.status is not None)


def _fields(event: Event) -> dict:
    return attrs.asdict(event, recurse=False)
