"""What a call to the service can fail with, and how that is read from an answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp

Document = dict[str, Any]


class CallError(Exception):
    """A call to the service had no good answer."""


class APIError(CallError):
    """The service refused.

    `errors` holds `{"path", "message"}` of every field that is wrong, `problem` the whole answer as it came.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, str]] = (),
        problem: Document | None = None,
    ) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status, self.code, self.detail = status, code, detail
        self.errors = tuple(errors)
        self.problem = problem or {}


class UnreachableError(CallError):
    """The service could not be reached, or the connection broke before the answer was whole."""


async def read_object(response: aiohttp.ClientResponse) -> Document:
    """The JSON object of a good answer; `APIError` where it is something else."""
    document = _parse(await response.read())
    if document is None:
        raise foreign(response)
    return document


async def read_problem(response: aiohttp.ClientResponse) -> APIError:
    """The error that a refusal stands for; what a proxy says in its own words is shortened to a line."""
    if 300 <= response.status < 400:
        place = response.headers.get("Location", "elsewhere")
        return APIError(response.status, "redirect", f"the service is not here but at {place}: use that as its URL")
    body = await response.read()
    problem = _parse(body)
    if problem is None:
        text = " ".join(body.decode("utf-8", "replace").split())[:200]
        return APIError(response.status, "unknown", text or response.reason or "no explanation was given")
    first = problem.get("error")
    code = first.get("code") if isinstance(first, dict) else None
    errors = [e for e in problem.get("errors") or () if isinstance(e, dict) and "path" in e and "message" in e]
    detail = problem.get("detail") or problem.get("title") or response.reason
    return APIError(response.status, str(code or "unknown"), str(detail), errors, problem)


def foreign(response: aiohttp.ClientResponse) -> APIError:
    """For a 200 that this API never gives."""
    detail = f"{response.url} answered {response.content_type!r}, not what Trainyard answers: is it another program?"
    return APIError(response.status, "foreign_answer", detail)


def _parse(body: bytes) -> Document | None:
    try:
        document = json.loads(body)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
