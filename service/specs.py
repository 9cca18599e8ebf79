"""A `JobSpec` as stored text, and back."""

import json
from collections.abc import Iterable
from typing import Any

from attrs import fields

from common.backend import JobSpec
from common.json_text import to_text
from schemas.values import FieldWarning

#: Kept beside the spec, or made of what is kept there.
_APART = ("warnings", "changes", "recorded")
_NAMES = tuple(field.name for field in fields(JobSpec) if field.name not in _APART)


def write_spec(spec: JobSpec) -> str:
    return to_text(shown_spec(spec) | {"warnings": [warning.to_json() for warning in spec.warnings]})


def write_warnings(warnings: Iterable[FieldWarning]) -> str:
    return to_text([warning.to_json() for warning in warnings])


def read_spec(text: str) -> JobSpec:
    record: dict[str, Any] = json.loads(text)
    record["argv"] = tuple(record["argv"])
    record["warnings"] = tuple(FieldWarning(**warning) for warning in record["warnings"])
    return JobSpec(**record)


def shown_spec(spec: JobSpec) -> dict[str, Any]:
    """The spec as it is shown; its warnings are shown beside it. What the other fields hold is plain JSON already."""
    return {name: getattr(spec, name) for name in _NAMES}
