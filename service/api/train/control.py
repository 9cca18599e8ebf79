"""`/train/{id}/…`: resume, pause, change, checkpoint."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from common.errors import InvalidRequest
from schemas.converter import structure
from schemas.resume import ResumeRequest
from schemas.trail import kind_word
from schemas.values import FieldError
from service.api.bodies import answer, answer_text, read_json
from service.documents import job_text
from service.keys import PARTS
from service.operations.change import change
from service.operations.checkpoint import checkpoint
from service.operations.pause import pause
from service.operations.resume import resume
from service.store.base import EVERYTHING, JobRecord


def _answer(request: web.Request, record: JobRecord, status: int = 202) -> web.Response:
    return answer_text(job_text(record, request.app[PARTS].dispatch.why_waiting(record.lane)), status)


async def post_resume(request: web.Request) -> web.Response:
    """`POST /train/{id}/resume`: 202; the body may be left out."""
    read = structure(await _object(request), ResumeRequest, strict=True)
    if read.value is None:
        raise InvalidRequest(read.errors)
    record = await resume(request.app[PARTS], request.match_info["job_id"], EVERYTHING, read.value)
    return _answer(request, record)


async def post_pause(request: web.Request) -> web.Response:
    """`POST /train/{id}/pause`: 202, and again 200, whether it is paused by now or still gives its devices back."""
    record, fresh = await pause(request.app[PARTS], request.match_info["job_id"], EVERYTHING)
    return _answer(request, record, 202 if fresh else 200)


async def patch_job(request: web.Request) -> web.Response:
    """`PATCH /train/{id}`: a merge patch; 202, and it holds when `job.changed` is told."""
    patch = await _object(request)
    return _answer(request, await change(request.app[PARTS], request.match_info["job_id"], EVERYTHING, patch))


async def post_checkpoint(request: web.Request) -> web.Response:
    """`POST /train/{id}/checkpoint`: 202 with the command's id."""
    command_id = await checkpoint(request.app[PARTS], request.match_info["job_id"], EVERYTHING)
    return answer({"command_id": command_id}, 202)


async def _object(request: web.Request) -> Mapping[str, Any]:
    if request.method == "POST" and not request.can_read_body:
        return {}
    posted, _ = await read_json(request)
    if not isinstance(posted, dict):
        raise InvalidRequest([FieldError("$", f"must be an object, got {kind_word(posted)}")])
    return posted


ROUTES = (
    web.post("/train/{job_id}/resume", post_resume),
    web.post("/train/{job_id}/pause", post_pause),
    web.patch("/train/{job_id}", patch_job),
    web.post("/train/{job_id}/checkpoint", post_checkpoint),
)
