"""The datasets of a document as materials: downloaded where they are not here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.datasets import fetch_datasets
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.text.data import Material


def materials(
    request: Mapping[str, Any],
    secrets: Secrets,
    *,
    cache: Path,
    check: Callable[[], None],
    say: Callable[[str], None],
    job_id: str = "",
    limits: Limits = Limits(),
) -> list[Material]:
    """Each dataset as a local path or a hub's id. Raises `DataError`, `SourceRefused`, `ConfigError`, `DiskFull`."""
    found = fetch_datasets(request, secrets, cache=cache, check=check, say=say, job_id=job_id, limits=limits)
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
