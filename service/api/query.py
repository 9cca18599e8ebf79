"""What a request's query may say, read with the same care as a document."""

import base64
import binascii

from aiohttp import web

from common.errors import InvalidRequest
from schemas.values import FieldError

_LARGEST = 2**63 - 1


def integer(request: web.Request, name: str, default: int, *, least: int = 0, most: int = _LARGEST) -> int:
    """An integer of the query; one that is larger than `most` is clamped. Raises `InvalidRequest`."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = int(text) if text.isascii() else None
    except ValueError:
        value = None
    if value is None or value < least:
        raise refused(name, f"must be an integer ≥ {least}, got {text[:80]!r}")
    return min(value, most)


def flag(request: web.Request, name: str) -> bool:
    """A boolean of the query: `true`, `1` or empty, `false` or `0`."""
    text = request.query.get(name)
    if text is None or text.lower() in ("false", "0"):
        return False
    if text.lower() in ("true", "1", ""):
        return True
    raise refused(name, f"must be true or false, got {text[:80]!r}")


def refused(name: str, message: str) -> InvalidRequest:
    """The error for a parameter of the query."""
    return InvalidRequest([FieldError(name, message)])


def write_cursor(seq: int) -> str:
    """An opaque cursor of a list."""
    return base64.urlsafe_b64encode(f"seq:{seq}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> int:
    """The place in a list that a cursor names. Raises `InvalidRequest` for a damaged one."""
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
        kind, _, number = plain.partition(":")
        if kind == "seq" and number.isdecimal() and int(number) <= _LARGEST:
            return int(number)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise refused("cursor", "is damaged; use the next_cursor of the page before, or leave it out")
