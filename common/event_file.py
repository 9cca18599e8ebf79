"""A run's `events.jsonl`: its lines, read as they come (contract trainer.md, 3)."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, frozen

READ_BYTES = 256 << 10


@frozen
class Line:
    """One event as it was written; `offset` is where the next one begins."""

    n: int
    type: str
    at: str | None
    data: Mapping[str, Any]
    offset: int
    #: The number that the program itself gave it, where it came over HTTP.
    posted: int | None = None


@define
class EventFile:
    """Reads a growing `events.jsonl` from a place on; a tail that is not good yet is left for the next time."""

    path: Path
    n: int = 0
    offset: int = 0

    def read(self) -> tuple[list[Line], bool]:
        """The next good lines, and whether more of the file is worth reading at once."""
        piece = chunk(self.path, self.offset, READ_BYTES)
        found: list[Line] = []
        for raw in whole(piece):
            line = parse(raw, self.offset)
            if line is None or line.n != self.n + 1:
                return found, False
            self.n, self.offset = line.n, line.offset
            found.append(line)
        return found, bool(found) and len(piece) == READ_BYTES

    def unread(self) -> int:
        """Bytes that are not read: of a finished run, what was cut off or was never good."""
        try:
            return self.path.stat().st_size - self.offset
        except OSError:
            return 0


def chunk(path: Path, offset: int, size: int = READ_BYTES) -> bytes:
    """A part of a file; empty where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, size, offset)
    finally:
        os.close(descriptor)


def whole(piece: bytes) -> Iterator[bytes]:
    """The lines that are ended."""
    start = 0
    while (newline := piece.find(b"\n", start)) >= 0:
        yield piece[start : newline + 1]
        start = newline + 1


def parse(raw: bytes, offset: int) -> Line | None:
    """The event of a line that begins at `offset`; None where it is not good."""
    if b"\0" in raw:
        return None
    try:
        record = json.loads(raw)
        n, kind, at, data = record["n"], record["type"], record.get("at"), record.get("data", {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if type(n) is not int or not isinstance(kind, str) or not isinstance(data, dict):
        return None
    posted = record.get("posted")
    return Line(
        n,
        kind,
        at if isinstance(at, str) else None,
        data,
        offset + len(raw),
        posted if type(posted) is int else None,
    )
