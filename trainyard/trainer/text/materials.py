"""The datasets of a document as materials: downloaded where they are not here."""

from collections.abc import Mapping
from typing import Any, Unpack

from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.datasets import fetch_datasets
from trainyard.trainer.sources.how import How
from trainyard.trainer.text.data import Material


def materials(request: Mapping[str, Any], secrets: Secrets, *, job_id: str = "", **how: Unpack[How]) -> list[Material]:
    """Each dataset as a local path or a hub's id. Raises `DataError`, `SourceRefused`, `ConfigError`, `DiskFull`."""
    found = fetch_datasets(request, secrets, job_id=job_id, **how)
    return [
        Material(
            at=one.at,
            source=one.shown,
            path=one.path,
            hub=one.hub,
            format=dataset["format"],
            split=dataset.get("split"),
            streaming=bool(dataset.get("streaming")),
            weight=float(dataset.get("weight") or 1),
            token=one.token,
        )
        for one, dataset in zip(found, request["datasets"], strict=True)
    ]
