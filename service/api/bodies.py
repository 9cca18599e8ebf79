"""Reading a request's JSON and writing an answer's."""

import json
from collections.abc import Mapping

from aiohttp import web

from common.errors import InvalidJSON, TooLarge, TrainyardError
from schemas.strict_json import JSONProblem, parse_json
from schemas.values import FieldError
from service.keys import PARTS


class UnsupportedMediaType(TrainyardError):
    """The body must be sent with `Content-Type: application/json`."""

    code = "unsupported_media_type"


async def read_json(request: web.Request) -> object:
    """The body as JSON. Raises `TooLarge`, `UnsupportedMediaType`, `InvalidJSON`."""
    limit = request.app[PARTS].settings.max_body_bytes
    if request.content_type != "application/json":
        raise UnsupportedMediaType
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge as e:
        raise TooLarge(f"the body is larger than {limit} bytes") from e
    try:
        return parse_json(body)
    except JSONProblem as e:
        raise InvalidJSON([FieldError(e.path, e.message)]) from e


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return answer_text(text, status, headers)


def answer_text(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer that is encoded already."""
    return web.Response(
        body=text.encode("utf-8", "replace"), status=status, content_type="application/json", headers=headers
    )
