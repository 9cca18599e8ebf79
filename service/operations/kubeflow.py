"""The status that transformers' `KubeflowCallback` posts, as the data of one `progress` (contract trainer.md, 3)."""

import math
from collections.abc import Mapping
from typing import Any

from common.errors import InvalidRequest
from schemas.values import FieldError

_AT = "trainerStatus"
_MOST_METRICS = 100
_LONGEST_NAME = 100
#: Its names for what `job.progress` has a field for.
_NAMES = {"current_step": "step", "current_epoch": "epoch"}
_WHOLE = frozenset({"step", "total_steps"})


def progress_of(posted: object) -> Mapping[str, Any]:
    """`percent`, `eta_seconds`, and the metrics that are numbers. Raises `InvalidRequest`."""
    status = posted.get(_AT) if isinstance(posted, dict) else None
    if not isinstance(status, dict):
        raise _wrong("", "must be an object")
    found = _metrics([] if status.get("metrics") is None else status["metrics"])
    for given, name in (("progressPercentage", "percent"), ("estimatedRemainingSeconds", "eta_seconds")):
        if (value := status.get(given)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise _wrong(f".{given}", "must be a number ≥ 0")
            found[name] = value
    return found


def _metrics(given: object) -> dict[str, Any]:
    if not isinstance(given, list) or len(given) > _MOST_METRICS:
        raise _wrong(".metrics", f"must be a list of at most {_MOST_METRICS}")
    found: dict[str, Any] = {}
    for n, metric in enumerate(given):
        name = metric.get("name") if isinstance(metric, dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise _wrong(f".metrics[{n}].name", f"must be a string of 1 to {_LONGEST_NAME} characters")
        name = _NAMES.get(name, name)
        if (value := _as_number(metric.get("value"), whole=name in _WHOLE)) is not None:
            found[name] = value
    return found


def _as_number(text: object, *, whole: bool) -> float | None:
    """The number that a metric's text is; None for any other text, and for half a step."""
    try:
        value = float(text) if isinstance(text, str) else math.nan
    except ValueError:
        return None
    if not math.isfinite(value) or abs(value) > 2**53:
        return None
    if value.is_integer() and whole:
        return int(value)
    return None if whole else value


def _wrong(path: str, message: str) -> InvalidRequest:
    return InvalidRequest([FieldError(f"{_AT}{path}", message)])
