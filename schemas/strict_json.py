"""JSON as the contracts take it: what RFC 8259 leaves open is refused, with a sentence and a path."""

import json
import re
from collections.abc import Iterator
from math import isinf
from typing import Any, Final

from schemas.values import joined

MAX_DEPTH: Final = 64
MAX_INTEGER: Final = 2**53
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class JSONProblem(ValueError):
    """The bytes are not a JSON document that we take."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(f"{path}: {message}")
        self.message = message
        self.path = path


class _SuspectError(ValueError):
    """The quick pass met something that the careful one will name."""


class _Bad:
    """Stands in the careful pass's tree where something is wrong."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Repeated(dict[str, object]):
    """An object in which a key stood twice."""

    key = ""


def parse_json(body: bytes) -> object:
    """The value that `body` holds; `JSONProblem` where it holds none, or one that cannot be kept exactly."""
    text = _text(body)
    try:
        value = _quick.decode(text)
    except _SuspectError:
        raise _explain(text) from None
    except json.JSONDecodeError as e:
        raise JSONProblem(f"is not JSON: {e.msg} at line {e.lineno}, column {e.colno}") from e
    except RecursionError as e:
        raise _too_deep() from e
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _too_deep()
    if _ODD_ESCAPE.search(text):
        _refuse_odd_strings(value)
    return value


def _text(body: bytes) -> str:
    if not body.strip():
        raise JSONProblem("is empty: send a JSON document")
    if body.startswith(b"\xef\xbb\xbf"):
        raise JSONProblem("begins with a byte order mark: send UTF-8 without one")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as e:
        raise JSONProblem(f"is not UTF-8: byte 0x{body[e.start]:02x} at offset {e.start}") from e


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _SuspectError
    return found


def _integer(digits: str) -> int:
    if len(digits) < 16:
        return int(digits)
    if len(digits) > 17 or abs(number := int(digits)) > MAX_INTEGER:
        raise _SuspectError
    return number


def _float(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise _SuspectError
    return number


def _constant(_name: str) -> object:
    raise _SuspectError


_quick = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _marked_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = _Repeated(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        found.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return found


def _marked_integer(digits: str) -> object:
    try:
        return _integer(digits)
    except _SuspectError:
        return _Bad(f"is an integer beyond ±2^53 ({_cut(digits)}): it would not be kept exactly")


def _marked_float(digits: str) -> object:
    try:
        return _float(digits)
    except _SuspectError:
        return _Bad(f"is a number too large to be kept ({_cut(digits)})")


_careful: Any = json.JSONDecoder(
    object_pairs_hook=_marked_object,
    parse_int=_marked_integer,
    parse_float=_marked_float,
    parse_constant=lambda name: _Bad(f"is {name}, which is not a JSON number"),
)


def _explain(text: str) -> JSONProblem:
    """The first problem of a document that the quick pass refused, in the order of the text where that can be told."""
    try:
        tree = _careful.decode(text)
    except json.JSONDecodeError as e:
        return JSONProblem(f"is not JSON: {e.msg} at line {e.lineno}, column {e.colno}")
    except RecursionError:
        return _too_deep()
    if _depth(tree) > MAX_DEPTH:
        return _too_deep()
    for value, path in _walk(tree, ()):
        if isinstance(value, _Bad):
            return JSONProblem(value.message, joined(*path))
        if isinstance(value, _Repeated) and value.key:
            return JSONProblem("is given twice in one object", joined(*path, _cut(value.key)))
    return JSONProblem("holds an object that gives one key twice")


def _walk(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[object, tuple[str | int, ...]]]:
    yield value, path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, key))
    elif isinstance(value, list):
        for n, item in enumerate(value):
            yield from _walk(item, (*path, n))


def _depth(value: object) -> int:
    """How many containers lie in one another; counted level by level, so that no depth is too much for it."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            break
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _refuse_odd_strings(tree: object) -> None:
    for value, path in _walk(tree, ()):
        if isinstance(value, str) and (fault := _odd(value)):
            raise JSONProblem(f"holds {fault}", joined(*path))
        if isinstance(value, dict):
            for key in value:
                if fault := _odd(key):
                    raise JSONProblem(f"has a key that holds {fault}", joined(*path))


def _odd(text: str) -> str | None:
    if "\0" in text:
        return "a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError as e:
        return f"half of a surrogate pair (\\u{ord(text[e.start]):04x}), which is no character"
    return None


def _too_deep() -> JSONProblem:
    return JSONProblem(f"is nested more than {MAX_DEPTH} levels deep")


def _cut(text: str, length: int = 40) -> str:
    return text if len(text) <= length else text[:length] + "…"
