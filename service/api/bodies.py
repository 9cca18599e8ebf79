"""Reading a request's JSON and writing an answer's."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

from aiohttp import web

from common.errors import InvalidJSON, TooLarge, UnsupportedMediaType
from schemas.strict_json import JSONProblem, parse_json
from schemas.values import FieldError
from service.keys import PARTS

P = ParamSpec("P")
R = TypeVar("R")

_LARGE = 32 << 10
_BODY_SECONDS = 60


async def read_json(request: web.Request) -> tuple[object, int]:
    """The body as JSON, and its size in bytes. Raises `TooLarge`, `UnsupportedMediaType`, `InvalidJSON`."""
    limit = request.app[PARTS].settings.max_body_bytes
    if request.content_type != "application/json":
        raise UnsupportedMediaType
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must be sent as it is, without `Content-Encoding`.")
    try:
        body = await _read(request)
    except TimeoutError as e:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {_BODY_SECONDS} s") from e
    except web.HTTPRequestEntityTooLarge as e:
        raise TooLarge(f"the body is larger than {limit} bytes") from e
    except web.RequestPayloadError as e:
        reason = " ".join(str(e.__cause__ or e).split())[:200]
        raise InvalidJSON([FieldError("$", f"can't be read as it was sent: {reason}")]) from e
    try:
        return await in_thread_if_large(len(body), parse_json, body), len(body)
    except JSONProblem as e:
        raise InvalidJSON([FieldError(e.path, e.message)]) from e


async def _read(request: web.Request) -> bytes:
    """The body, within its time; the clock is not even set where all of it has come with the headers."""
    if request.content.is_eof():
        return await request.read()
    async with asyncio.timeout(_BODY_SECONDS):
        return await request.read()


async def in_thread_if_large(size: int, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`work(...)` on a body of `size` bytes: here when it is small, else in a thread, so that the loop goes on."""
    return await asyncio.to_thread(work, *args, **kwargs) if size > _LARGE else work(*args, **kwargs)


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return answer_text(text, status, headers)


def answer_text(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that is encoded already."""
    return web.Response(
        body=text.encode("utf-8", "replace") + b"\n", status=status, content_type="application/json", headers=headers
    )
