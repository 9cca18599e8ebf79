"""What a job reported: metrics and checkpoints."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from common.storage import local_path
from service.api.bodies import answer
from service.api.query import integer
from service.documents import metric
from service.keys import PARTS

_PAGE, _LARGEST_PAGE = 1000, 10_000
_ALWAYS = ("step", "time", "attempt")


async def metrics(request: web.Request) -> web.Response:
    """`GET /train/{id}/metrics`: one entry a reported step, of the newest attempt that reported it."""
    store = request.app[PARTS].store
    record = await store.job(request.match_info["job_id"])
    after = integer(request, "after", -1, least=-1)
    limit = integer(request, "limit", _PAGE, least=1, most=_LARGEST_PAGE)
    names = [name for text in request.query.getall("names", ()) for name in text.split(",") if name]
    found = [metric(json.loads(text)) for text in await store.metrics(record.job.uid, after, limit + 1)]
    page = found[:limit]
    if names:
        page = [{k: v for k, v in entry.items() if k in names or k in _ALWAYS} for entry in page]
    return answer({"metrics": page, "next_after": page[-1]["step"] if len(found) > limit else None})


async def checkpoints(request: web.Request) -> web.Response:
    """`GET /train/{id}/checkpoints`: those that still exist."""
    store = request.app[PARTS].store
    record = await store.job(request.match_info["job_id"])
    events = [json.loads(text) for text in await store.checkpoints(record.job.uid)]
    newest = {event["data"]["uri"]: _checkpoint(event) for event in events}
    kept = await asyncio.to_thread(_existing, list(newest.values()))
    return answer({"checkpoints": kept})


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


ROUTES = (
    web.get("/train/{job_id}/metrics", metrics),
    web.get("/train/{job_id}/checkpoints", checkpoints),
)
