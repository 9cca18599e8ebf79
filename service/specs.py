"""A `JobSpec` as stored text, and back."""

import json
from typing import Any

from attrs import asdict

from common.backend import JobSpec
from schemas.values import FieldWarning


def write_spec(spec: JobSpec) -> str:
    return json.dumps(asdict(spec), ensure_ascii=False, separators=(",", ":"))


def read_spec(text: str) -> JobSpec:
    record: dict[str, Any] = json.loads(text)
    record["argv"] = tuple(record["argv"])
    record["warnings"] = tuple(FieldWarning(**warning) for warning in record["warnings"])
    return JobSpec(**record)


def shown_spec(spec: JobSpec) -> dict[str, Any]:
    """The spec as it is shown; its warnings are shown beside it."""
    document = asdict(spec)
    del document["warnings"]
    return document
