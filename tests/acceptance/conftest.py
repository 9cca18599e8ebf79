"""A tiny real model and real data for whole jobs."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import PLAIN_TEXTS

_SLOW = """
import os, sys, time
from pathlib import Path

def wait(event, args):  # before each event a run looks at its fence
    if event == "open" and str(args[0]).endswith("/attempt") and slow.exists():
        time.sleep(0.1)

if os.environ.get("TRAINYARD_ATTEMPT_DIR", "").endswith("/1.0"):
    slow = Path(__file__).with_name(os.environ["TRAINYARD_JOB_ID"])
    sys.addaudithook(wait)
"""


@pytest.fixture
def slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Lets a job's first run take its time over each event, so that a test can act before it is over.

    To be called before the server is started; until the file that it returns is removed.
    """
    folder = tmp_path / "slowly"

    def make(job_id: str) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "sitecustomize.py").write_text(_SLOW)
        (folder / job_id).touch()
        others = os.environ.get("PYTHONPATH")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *([others] if others else [])]))
        return folder / job_id

    return make


@pytest.fixture
def training(tiny_model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A document that trains the tiny model on the CPU; keywords are tuning parameters."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in PLAIN_TEXTS))

    def make(job_id: str = "cpu-1", method: str = "lora", **tuning: Any) -> dict[str, Any]:
        return {
            "job_id": job_id,
            "base_model": {"provider": "custom", "model_name": str(tiny_model)},
            "customization": {"method": method, "rank": 4, "precision": "fp32"},
            "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1},
            "datasets": [{"source": str(data), "format": "jsonl"}],
            "artifacts": {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "results")},
            "tuning_parameters": {"max_steps": 20, "batch_size": 4, "logging_steps": 1, "eval_ratio": 0.1, **tuning},
        }

    return make
