"""The checkpoints of a job that still exist, as its events told them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.storage import local_path
from service.store.base import Store


async def kept(store: Store, uid: str) -> list[dict[str, Any]]:
    """In the order in which they were written; of one that was written twice the newest."""
    events = [json.loads(text) for text in await store.checkpoints(uid)]
    newest = {event["data"]["uri"]: _checkpoint(event) for event in events}
    return await asyncio.to_thread(_existing, list(newest.values()))


async def newest_step(store: Store, uid: str) -> int | None:
    """The step that a next attempt goes on from, as far as the service sees; None: from the start."""
    return max((int(entry["step"]) for entry in await kept(store, uid)), default=None)


def _checkpoint(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event["data"]
    return {
        "step": data["step"],
        "uri": data["uri"],
        "created_at": event["time"],
        "bytes": data.get("bytes"),
        "attempt": event["attempt"],
        "kind": data.get("kind", "step"),
    }


def _existing(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the local ones that were deleted since."""
    return [entry for entry in found if _exists(local_path(entry["uri"]))]


def _exists(checkpoint: Path | None) -> bool:
    """Whether it may still be there: what the service can't look at is listed."""
    try:
        return checkpoint is None or (checkpoint / "checkpoint.json").exists()
    except OSError:
        return True
