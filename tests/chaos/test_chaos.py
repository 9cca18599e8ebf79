"""The fault suite itself: a seed repeats, the checker finds what is wrong, and a short round finds nothing."""

import json

import pytest

from tests.chaos.__main__ import play
from tests.chaos.acts import STEPS, drawn
from tests.chaos.check import _curve, _log, half_checkpoints

SEED = 7


def event(sequence: int, kind: str, attempt: int = 1, status: str = "running", **data: object) -> dict:
    at = {"id": sequence, "sequence": sequence, "time": "2026-01-01T00:00:00Z", "message": "", "phase": None}
    return at | {"job_id": "a", "type": f"job.{kind}", "attempt": attempt, "status": status, "data": data}


def curve(losses: dict[int, float], attempt: int = 1) -> list[dict]:
    return [event(step, "progress", attempt, step=step, loss=loss) for step, loss in losses.items()]


def test_the_same_seed_draws_the_same_deeds_and_another_one_others() -> None:
    assert drawn(5, 4) == drawn(5, 4)
    assert len({drawn(seed, 4) for seed in range(20)}) == 20
    for patient in (patient for seed in range(50) for patient in drawn(seed, 4)):
        steps = [act.step for act in patient.acts]
        assert steps == sorted(steps) and steps[-1] < STEPS
        assert patient.processes == 2 or not any("rank" in act.victim + act.beside for act in patient.acts)
    assert {(patient.method, patient.processes) for seed in range(9) for patient in drawn(seed, 1)} == {
        (method, processes) for method in ("lora", "full") for processes in (1, 2)
    }


def test_the_checker_sees_a_curve_that_is_not_the_undisturbed_one() -> None:
    whole = {step: 1 / step for step in range(1, STEPS + 1)}
    assert list(_curve(curve(whole), curve(whole))) == []
    again = {step: loss for step, loss in whole.items() if step > 30}
    assert list(_curve([*curve(dict(list(whole.items())[:33])), *curve(again, attempt=2)], curve(whole))) == []
    (found,) = _curve(curve(whole | {7: whole[7] + 1e-16}), curve(whole))
    assert found.startswith("losses differ: [(7, ")
    (found,) = _curve(curve({step: loss for step, loss in whole.items() if step != STEPS}), curve(whole))
    assert found == f"steps [{STEPS}] were never told"
    (found,) = _curve([*curve(whole), *curve({40: whole[40], 42: whole[42]}, attempt=2)], curve(whole))
    assert found == "attempt 2 told its steps out of turn: [40, 42]"


def test_the_checker_sees_gaps_and_second_ends() -> None:
    job = {"uid": "u", "job_id": "a", "status": "succeeded", "attempt": 1, "reason": None}
    begun = [event(1, "queued", status="queued") | {"phase": "waiting"}, event(2, "running") | {"phase": "preparing"}]
    assert list(_log([*begun, event(3, "succeeded", status="succeeded")], job)) == []
    (told, *_) = _log([*begun, event(3, "failed", status="failed", reason="lost")], job)
    assert told.startswith("it ended ['job.failed']")
    gap, unfolded = _log([*begun, event(4, "succeeded", status="succeeded")], job)
    assert gap == "its sequences have gaps: [1, 2, 4]"
    assert "sequence 4 follows 2" in unfolded


def test_the_checker_sees_half_a_checkpoint(tmp_path) -> None:
    for name in ("step-5", "step-6.tmp-1.0"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    record = {"format": 1, "files": {"model.bin": [3, "no sum"]}}
    (tmp_path / "checkpoints" / "step-5" / "checkpoint.json").write_text(json.dumps(record))
    (found,) = half_checkpoints(tmp_path)
    assert found.endswith("step-5 is visible and damaged: model.bin is missing")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_short_round_of_kills_leaves_all_as_if_nothing_had_been(tmp_path) -> None:
    assert play(SEED, 2, tmp_path) == []
