"""A first look at the data, before anything is loaded: every line, its shape, and whether it has a target."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from attrs import frozen

from trainyard.trainer.failures import DataError, SourceRefused

Kind = Literal["text", "completion", "messages"]
_SHAPES = '{"text": …}, {"prompt": …, "completion": …} or {"messages": [{"role": …, "content": …}, …]}'
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_SHOWN = 10
_CHECK_EVERY = 2_000


@frozen
class Row:
    """One row and where it stands; `value` is the text, the pair, or the list of messages."""

    path: Path
    line: int
    kind: Kind
    value: Any

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


@frozen
class Source:
    """One file as it was read."""

    path: Path
    rows: int
    bytes: int
    sha256: str


@frozen
class Corpus:
    """All rows that have something to learn, in the order of the document."""

    rows: tuple[Row, ...]
    sources: tuple[Source, ...]
    without_target: tuple[str, ...]


class RowError(ValueError):
    """What is wrong with one row."""


def look(paths: list[Path], check: Callable[[], None]) -> Corpus:
    """Read every row of every file. Raises `DataError` with file and line of what can't be trained on."""
    rows: list[Row] = []
    sources: list[Source] = []
    problems: list[str] = []
    without: list[str] = []
    for path in paths:
        digest, size, before = hashlib.sha256(), 0, len(rows) + len(without)
        for number, line in _lines(path):
            digest.update(line)
            size += len(line)
            if number % _CHECK_EVERY == 0:
                check()
            if not line.strip():
                continue
            try:
                row = Row(path, number, *_parse(line, number))
            except RowError as e:
                problems.append(f"{path}:{number}: {e}")
                continue
            (rows.append(row) if _has_target(row) else without.append(row.place))
        found = len(rows) + len(without) - before
        if not found and not problems:
            problems.append(f"{path}: the file {'has no row' if size else 'is empty'}")
        sources.append(Source(path, found, size, digest.hexdigest()))
        check()
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError("; ".join(problems[:_SHOWN]) + more)
    if not rows:
        raise DataError(
            f"{without[0]}: no row has a target to learn (an answer, a completion or a text that is not empty)"
        )
    return Corpus(tuple(rows), tuple(sources), tuple(without))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, 1)
    except PermissionError as e:
        raise SourceRefused(f"{path}: may not be read by the user that runs the job") from e
    except OSError as e:
        raise DataError(f"{path}: {e.strerror}") from e


def _parse(line: bytes, number: int) -> tuple[Kind, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as e:
        raise RowError(f"is not UTF-8 (byte {e.start + 1})") from e
    except json.JSONDecodeError as e:
        raise RowError(f"is not JSON: {e.msg} (column {e.colno}); each line must be one object") from e
    except (RecursionError, ValueError) as e:
        raise RowError(f"is not JSON that can be read: {type(e).__name__}") from e
    if not isinstance(row, dict):
        raise RowError(f"must be an object, got {_kind(row)}; give {_SHAPES}")
    if "messages" in row:
        return "messages", _messages(row["messages"])
    if "completion" in row or "prompt" in row:
        return "completion", (_text(row, "prompt"), _text(row, "completion"))
    if "text" in row:
        return "text", _text(row, "text")
    if "output" in row and ("instruction" in row or "input" in row):
        raise RowError(f"has the shape instruction/input/output, which is not in this version; give {_SHAPES}")
    keys = ", ".join(repr(k)[:40] for k in list(row)[:8]) or "none"
    raise RowError(f"has none of the shapes that can be trained on (its keys: {keys}); give {_SHAPES}")


def _text(row: dict[str, Any], key: str) -> str:
    if key not in row:
        raise RowError(f"{key} is missing; a row of prompt and completion needs both")
    return _string(row[key], key)


def _string(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{where} must be a string, got {_kind(value)}")
    if any("\ud800" <= c <= "\udfff" for c in value) if not value.isascii() else False:
        raise RowError(f"{where} has a lone surrogate, which is not valid Unicode")
    return value


def _messages(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise RowError(f"messages must be a list of at least one message, got {_kind(value)}")
    turns = []
    for i, turn in enumerate(value):
        if not isinstance(turn, dict):
            raise RowError(f"messages[{i}] must be an object with role and content, got {_kind(turn)}")
        role = turn.get("role")
        if role not in _ROLES:
            raise RowError(f"messages[{i}].role must be one of {', '.join(sorted(_ROLES))}, got {role!r}")
        turns.append({"role": role, "content": _string(turn.get("content"), f"messages[{i}].content")})
    return turns


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    if value == []:
        return "an empty list"
    return names.get(type(value), "a number")


def _has_target(row: Row) -> bool:
    if row.kind == "messages":
        return any(turn["role"] == "assistant" and turn["content"].strip() for turn in row.value)
    return bool(row.value[1].strip() if row.kind == "completion" else row.value.strip())
