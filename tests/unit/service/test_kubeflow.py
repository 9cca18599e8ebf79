"""Statuses of Hugging Face's Kubeflow reporting as progress."""

import pytest

from common.errors import InvalidRequest
from service.operations.kubeflow import progress_of
from service.posted import with_step


def test_a_status_is_percent_time_left_and_the_metrics_that_are_numbers() -> None:
    metrics = {"loss": "1.5", "current_step": "7", "total_steps": "30.0", "current_epoch": "0.25", "name": "x"}
    status = {
        "lastUpdatedTime": "2026-01-31T12:00:00+00:00",
        "progressPercentage": 23,
        "estimatedRemainingSeconds": 40,
        "metrics": [{"name": k, "value": v} for k, v in (metrics | {"bad": "nan", "much": "1e999"}).items()],
    }
    assert progress_of({"trainerStatus": status}) == {
        "loss": 1.5,
        "step": 7,
        "total_steps": 30,
        "epoch": 0.25,
        "percent": 23,
        "eta_seconds": 40,
    }


def test_half_a_step_is_none() -> None:
    assert progress_of({"trainerStatus": {"metrics": [{"name": "current_step", "value": "7.5"}]}}) == {}


@pytest.mark.parametrize(
    ("posted", "path"),
    [
        ([], "trainerStatus"),
        ({"trainerStatus": 5}, "trainerStatus"),
        ({"trainerStatus": {"progressPercentage": "5"}}, "trainerStatus.progressPercentage"),
        ({"trainerStatus": {"estimatedRemainingSeconds": -1}}, "trainerStatus.estimatedRemainingSeconds"),
        ({"trainerStatus": {"metrics": {}}}, "trainerStatus.metrics"),
        ({"trainerStatus": {"metrics": [{"name": "a"}] * 101}}, "trainerStatus.metrics"),
        ({"trainerStatus": {"metrics": [{"value": "1"}]}}, "trainerStatus.metrics[0].name"),
    ],
)
def test_another_document_is_refused_with_its_path(posted: object, path: str) -> None:
    with pytest.raises(InvalidRequest) as e:
        progress_of(posted)
    assert e.value.errors[0].path == path


def test_a_step_that_is_not_said_follows_from_the_others() -> None:
    assert with_step({"percent": 100}, {"step": 3, "total_steps": 30}) == {
        "step": 30,
        "total_steps": 30,
        "percent": 100,
    }
    assert with_step({"percent": 100}, {"step": 3}) == {"step": 3, "percent": 100}
    assert with_step({}, {}) == {"step": 0}
    assert with_step({"step": 4, "total_steps": 9}, {"step": 3, "total_steps": 30})["step"] == 4
