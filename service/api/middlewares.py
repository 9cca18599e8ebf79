"""What every request passes through: an id, the door, and the one translation of errors."""

import re
import time
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from common.clock import new_id
from common.errors import TooLarge, TrainyardError, Unavailable, UnsupportedMediaType
from service.api.problems import of_error, problem
from service.auth import OPEN_PATHS, admit
from service.keys import PARTS, REQUEST_ID

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


@web.middleware
async def request_ids(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer has an `X-Request-Id`: the caller's where it is a plain one, else a new one; the log has it too."""
    given = request.headers.get("X-Request-Id", "")
    request_id = given if _GIVEN_ID.fullmatch(given) else new_id()
    request[REQUEST_ID] = request_id
    structlog.contextvars.bind_contextvars(request_id=request_id)
    began = time.monotonic()
    response = await _answer(request, handler)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
    level = log.warning if response.status >= 500 else log.debug
    level(
        "answered",
        method=request.method,
        path=request.path,
        status=response.status,
        milliseconds=round((time.monotonic() - began) * 1000, 1),
    )
    return response


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        parts = request.app[PARTS]
        admit(request, parts.settings)
        if parts.stopping and request.path not in OPEN_PATHS:
            raise Unavailable("the service is stopping; runs go on, try again soon", retry_after=5)
        return await handler(request)
    except TrainyardError as e:
        answer = of_error(e)
        if isinstance(e, TooLarge | UnsupportedMediaType) or isinstance(e.__cause__, web.RequestPayloadError):
            answer.force_close()  # the rest of the body is not read, so no other request can follow it
        return answer
    except web.HTTPException as e:
        return _of_http(request, e)
    except ConnectionResetError:
        raise
    except Exception:  # the last door: a fault of ours is a 500 with an id that the log has too
        log.exception("a request failed", method=request.method, path=request.path)
        detail = f"an error of ours; the log has it under request id {request[REQUEST_ID]}"
        return problem(500, "internal", detail)


def _of_http(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    if error.status < 400:
        return error
    code = _HTTP_CODES.get(error.status, "invalid_request")
    detail = error.text or error.reason
    headers = {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        detail = (
            f"{request.method} is not allowed on {request.path}; allowed: {', '.join(sorted(error.allowed_methods))}"
        )
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    elif error.status == 404 and detail in ("404: Not Found", "Not Found"):
        detail = f"there is nothing at {request.path}"
    return problem(error.status, code, detail, headers=headers)
