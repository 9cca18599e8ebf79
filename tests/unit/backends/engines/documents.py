"""Documents and machines that the tests of what our engines take speak of."""

from pathlib import Path
from typing import Any

from backends.engines.limits import find_errors
from backends.engines.machine import Machine
from common.devices import Device
from schemas.converter import structure
from schemas.train import TrainRequest

SMALL = Machine(cpus=2, memory_gib=23.5)
GPUS = Machine(
    cpus=16, memory_gib=128, devices=(Device("0", "NVIDIA A100-SXM4-80GB"), Device("1", "NVIDIA H100 80GB HBM3"))
)


def merged(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) or not isinstance(document, dict):
        return patch
    return document | {key: merged(document.get(key), value) for key, value in patch.items()}


def document(folder: Path, **patch: Any) -> dict[str, Any]:
    rows = folder / "rows.jsonl"
    rows.write_text('{"text": "a row"}\n')
    base = {
        "job_id": "job-1",
        "base_model": {"provider": "custom", "model_name": "owner/name"},
        "datasets": [{"source": str(rows), "format": "jsonl"}],
        "artifacts": {"log_uri": str(folder / "logs"), "output_uri": str(folder / "out")},
    }
    return dict(merged(base, patch))


def found(given: dict[str, Any], machine: Machine = SMALL) -> dict[str, str]:
    """The errors of a document by path: each path once."""
    read = structure(given, TrainRequest)
    assert read.value is not None, read.errors
    errors = find_errors(read.value, machine)
    assert len({e.path for e in errors}) == len(errors)
    return {e.path: e.message for e in errors}
