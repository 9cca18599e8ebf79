"""`/train`: submit, validate, list, show, cancel."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from common.job import Status
from service.api.bodies import answer, answer_text, in_thread_if_large, read_json
from service.api.connected import while_connected
from service.api.query import flag, integer, read_cursor, refused, write_cursor
from service.documents import job_document, job_text
from service.keys import PARTS
from service.operations.accept import Accepted, accept, reads_files
from service.operations.cancel import cancel
from service.operations.examine import examine
from service.operations.submit import submit
from service.specs import shown_spec
from service.store.base import EVERYTHING, Filters, JobRecord

_PAGE, _LARGEST_PAGE = 50, 500


def _answer(
    request: web.Request, record: JobRecord, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    text = job_text(record, request.app[PARTS].dispatch.why_waiting(record.lane))
    return answer_text(text, status, headers)


async def post_train(request: web.Request) -> web.Response:
    """`POST /train`: 201 for a new job, 200 for the same document again."""
    record, fresh = await submit(request.app[PARTS], await _accepted(request))
    location = {"Location": f"/train/{record.job.job_id}"}
    return _answer(request, record, 201 if fresh else 200, location)


async def post_validate(request: web.Request) -> web.Response:
    """`POST /train/validate`: what `POST /train` would say; `deep` looks at data and model too. Nothing is stored."""
    deep = flag(request, "deep")
    accepted = await _accepted(request)
    warnings = list(accepted.warnings)
    found: dict[str, object] = {}
    if deep:
        found, more = await while_connected(request, examine(request.app[PARTS], accepted))
        warnings += more
    shown = {"ok": True, "warnings": [w.to_json() for w in warnings], "job_spec": shown_spec(accepted.spec)}
    return answer(shown | found)


async def _accepted(request: web.Request) -> Accepted:
    strict = flag(request, "strict")
    posted, size = await read_json(request)
    parts = request.app[PARTS]
    if reads_files(parts, posted):
        return await asyncio.to_thread(accept, parts, posted, strict=strict)
    return await in_thread_if_large(size, accept, parts, posted, strict=strict)


async def list_jobs(request: web.Request) -> web.Response:
    """`GET /train`: newest first, by pages."""
    limit = integer(request, "limit", _PAGE, least=1, most=_LARGEST_PAGE)
    cursor = request.query.get("cursor")
    before = None if cursor is None else read_cursor(cursor)
    records = await request.app[PARTS].store.jobs(EVERYTHING, _filters(request), before, limit + 1)
    page = records[:limit]
    more = write_cursor(page[-1].seq) if len(records) > limit else None
    why = request.app[PARTS].dispatch.why_waiting
    return answer({"jobs": [job_document(record, why(record.lane)) for record in page], "next_cursor": more})


def _filters(request: web.Request) -> Filters:
    statuses = tuple(request.query.getall("status", ()))
    for status in statuses:
        if status not in set(Status):
            raise refused("status", f"must be one of {', '.join(Status)}; got {status[:80]!r}")
    labels = []
    for label in request.query.getall("label", ()):
        key, found, value = label.partition("=")
        if not found or not key:
            raise refused("label", f"must be key=value, got {label[:80]!r}")
        labels.append((key, value))
    return Filters(statuses=statuses, backend=request.query.get("backend"), labels=tuple(labels))


async def show_job(request: web.Request) -> web.Response:
    """`GET /train/{id}`."""
    record = await request.app[PARTS].store.job(request.match_info["job_id"])
    return _answer(request, record)


async def post_cancel(request: web.Request) -> web.Response:
    """`POST /train/{id}/cancel`: 202 while there is something to end, 200 when it is cancelled already."""
    record, ending = await cancel(request.app[PARTS], request.match_info["job_id"], EVERYTHING, repeatable=True)
    return _answer(request, record, 202 if ending else 200)


async def delete_job(request: web.Request) -> web.Response:
    """`DELETE /train/{id}`: as cancel; any ended job is a conflict."""
    record, _ = await cancel(request.app[PARTS], request.match_info["job_id"], EVERYTHING, repeatable=False)
    return _answer(request, record, 202)


ROUTES = (
    web.post("/train", post_train),
    web.get("/train", list_jobs),
    web.post("/train/validate", post_validate),
    web.get("/train/{job_id}", show_job),
    web.delete("/train/{job_id}", delete_job),
    web.post("/train/{job_id}/cancel", post_cancel),
)
