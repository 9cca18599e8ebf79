"""Errors as `application/problem+json`: one shape for all of them (contract train.md, 3)."""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from aiohttp import web

from common import errors
from schemas.values import FieldError

STATUSES: Mapping[str, int] = {
    "invalid_json": 400,
    "invalid_request": 400,
    "unknown_backend": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_open_yet": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "not_supported": 409,
    "too_large": 413,
    "rate_limited": 429,
    "internal": 500,
    "unavailable": 503,
    "storage_full": 507,
}
#: Of errors that share their code with others.
OWN_STATUSES: Mapping[type[errors.TrainyardError], int] = {errors.UnsupportedMediaType: 415, errors.Over: 410}
_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    fields: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The answer for one error. `error` repeats the first for the common SDKs."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": [field.to_json() for field in fields],
        "error": {
            "message": fields[0].message if fields else detail,
            "type": kind,
            "param": fields[0].path if fields else None,
            "code": code,
        },
    }
    extra = dict(headers or {})
    if status == 409:
        extra["x-should-retry"] = "false"
    return web.Response(
        status=status,
        body=json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"),
        content_type="application/problem+json",
        headers=extra,
    )


def of_error(error: errors.TrainyardError) -> web.Response:
    """The answer for an error of ours."""
    status = next((own for kind, own in OWN_STATUSES.items() if isinstance(error, kind)), STATUSES[error.code])
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    elif isinstance(error, errors.BackendUnavailable):
        headers["Retry-After"] = "5"
    elif status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="trainyard"'
    fields = error.errors if isinstance(error, errors.InvalidRequest) else ()
    return problem(status, error.code, error.message, fields=fields, headers=headers)
