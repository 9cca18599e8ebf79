"""The usage guide's document, fresh for every test."""

import json
from pathlib import Path
from typing import Any

import pytest

USAGE_GUIDE = Path(__file__).parents[2] / "data" / "usage_guide.json"


@pytest.fixture
def body() -> bytes:
    return USAGE_GUIDE.read_bytes()


@pytest.fixture
def document(body: bytes) -> dict[str, Any]:
    return json.loads(body)


@pytest.fixture
def small() -> dict[str, Any]:
    """The least that is a whole document."""
    return {
        "job_id": "j-1",
        "base_model": {"provider": "huggingface", "model_name": "org/model"},
        "datasets": [{"source": "data.jsonl", "format": "jsonl"}],
        "artifacts": {"log_uri": "logs", "output_uri": "out"},
    }
