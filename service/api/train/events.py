"""Events: as pages of JSON, and as server-sent events (contract train.md, 4)."""

import json

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from service.api.bodies import answer_text
from service.api.query import integer
from service.keys import PARTS, REQUEST_ID
from service.parts import Parts

_PAGE, _LARGEST_PAGE = 500, 1000


async def job_events(request: web.Request) -> web.StreamResponse:
    """`GET /train/{id}/events`: SSE only where `Accept` names it."""
    parts = request.app[PARTS]
    record = await parts.store.job(request.match_info["job_id"])
    if "text/event-stream" in request.headers.get("Accept", ""):
        return await stream(request, record.job.uid)
    after = integer(request, "after", 0)
    limit = integer(request, "limit", _PAGE, least=1, most=_LARGEST_PAGE)
    found = await parts.store.events(record.job.uid, after, limit + 1)
    page = found[:limit]
    next_after = page[-1].id if len(found) > limit else None
    events = ",".join(event.text for event in page)
    return answer_text(f'{{"events":[{events}],"next_after":{json.dumps(next_after)}}}')


async def all_events(request: web.Request) -> web.StreamResponse:
    """`GET /events`: all jobs that the caller may see, from now on or from a cursor."""
    return await stream(request, None)


async def stream(request: web.Request, uid: str | None) -> web.StreamResponse:
    """Serve events as SSE from the request's cursor; a job's stream ends with the job."""
    parts = request.app[PARTS]
    given = request.headers.get("Last-Event-ID", request.query.get("after"))
    oldest, newest = await parts.store.event_bounds()
    after, reset = _cursor(given, oldest, newest, default=newest if uid is None else 0)
    if uid is not None and given is not None and reset is None and await _over(parts, uid, after):
        return web.Response(status=204)
    headers = {"X-Request-Id": request[REQUEST_ID], "X-Accel-Buffering": "no"}
    with parts.subscriber():
        response = EventSourceResponse(headers=headers, ping_interval=parts.settings.ping_seconds)
        await response.prepare(request)
        try:
            async with response:
                await response.write(b": trainyard\n\n" if reset is None else reset)
                await _send(parts, response, uid, after)
        except ConnectionResetError:
            pass  # the reader has gone
    return response


def _cursor(given: str | None, oldest: int, newest: int, *, default: int) -> tuple[int, bytes | None]:
    """Where to begin, and the `reset` message when the reader's cursor is none of ours."""
    if given is None:
        return default, None
    if not (given.isascii() and given.isdecimal() and len(given) <= 19):
        reason = "the cursor is not a number"
    elif int(given) > newest:
        reason = "the cursor is above the newest event"
    elif int(given) != 0 and int(given) < oldest - 1:
        reason = "the events behind the cursor are not kept any more"
    else:
        return int(given), None
    data = json.dumps({"reason": reason, "from": oldest})
    return 0, f"event: reset\ndata: {data}\n\n".encode()


async def _send(parts: Parts, response: EventSourceResponse, uid: str | None, after: int) -> None:
    async for batch in parts.bus.frames(parts.store, uid, after):
        await response.write(batch.sse)
        if uid is not None and batch[-1].ends and await _over(parts, uid, batch[-1].id):
            return
    await response.write(b": the server stops\nretry: 1000\n\n")


async def _over(parts: Parts, uid: str, after: int) -> bool:
    """Whether a job's newest event is an end and lies not behind the cursor."""
    job = (await parts.store.job_by_uid(uid)).job
    return job.ended and after >= job.last_event_id


ROUTES = (
    web.get("/train/{job_id}/events", job_events),
    web.get("/events", all_events),
)
