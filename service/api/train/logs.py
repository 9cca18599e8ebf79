"""A job's log: its end, a part, or all that is still to come."""

from pathlib import Path

from aiohttp import web

from service import logs
from service.api.query import flag, integer, refused
from service.keys import PARTS, REQUEST_ID
from service.logs import Masker, View
from service.parts import Parts

_PART_BYTES = 8 << 20
_LARGEST_TAIL = 100_000


async def job_logs(request: web.Request) -> web.StreamResponse:
    """`GET /train/{id}/logs`: text; `X-Log-Offset` tells where to go on."""
    parts = request.app[PARTS]
    record = await parts.store.job(request.match_info["job_id"])
    path = (await parts.folders.newest(record.job)).log
    masker = Masker((await parts.store.secrets(record.job.uid)).values())
    view = View(masker=masker, line_bytes=parts.settings.max_log_line_bytes)
    if "tail" in request.query and "offset" in request.query:
        raise refused("tail", "can't be given together with offset")
    ended = record.job.ended
    if "tail" in request.query:
        chunk = await logs.tail(path, integer(request, "tail", 0, most=_LARGEST_TAIL), view, ended=ended)
    else:
        chunk = await logs.read_from(path, integer(request, "offset", 0), _PART_BYTES, view, ended=ended)
    if flag(request, "follow"):
        return await _follow(request, parts, record.job.uid, chunk, view)
    return web.Response(
        body=chunk.text,
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Log-Offset": str(chunk.offset)},
    )


async def _follow(request: web.Request, parts: Parts, uid: str, begun: logs.Chunk, view: View) -> web.StreamResponse:
    """What there is, then what comes, until the job has ended and all of its log was sent."""

    async def look() -> tuple[Path, bool]:
        job = (await parts.store.job_by_uid(uid)).job
        return (await parts.folders.newest(job)).log, parts.stopping or job.ended

    headers = {"X-Request-Id": request[REQUEST_ID], "X-Accel-Buffering": "no", "Cache-Control": "no-store"}
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8", **headers})
    with parts.subscriber():
        await response.prepare(request)
        try:
            await response.write(begun.text)
            async for text in logs.follow(look, begun.offset, view):
                await response.write(text)
        except ConnectionResetError:
            pass  # the reader has gone
    return response


ROUTES = (web.get("/train/{job_id}/logs", job_logs),)
