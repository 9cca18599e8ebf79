"""What a job reported: metrics and checkpoints."""

import json

from aiohttp import web

from service.api.bodies import answer
from service.api.query import integer
from service.checkpoints import kept
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
    return answer({"checkpoints": await kept(store, record.job.uid)})


ROUTES = (
    web.get("/train/{job_id}/metrics", metrics),
    web.get("/train/{job_id}/checkpoints", checkpoints),
)
