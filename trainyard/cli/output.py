"""What the command line writes: the API's JSON, plain lines for people, and nothing that could move their cursor."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def write_json(document: Mapping[str, object]) -> None:
    """One document on one line of standard output."""
    text = json.dumps(document, ensure_ascii=False)
    write(text if _encodable(text) == text else json.dumps(document))


def write(line: str = "") -> None:
    """One line on standard output, at once: others may be reading along."""
    sys.stdout.write(_encodable(line) + "\n")
    sys.stdout.flush()


def complain(line: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"trainyard: {line}\n")
    sys.stderr.flush()


def warn(warnings: Iterable[Mapping[str, str]]) -> None:
    """The warnings of a document, one a line."""
    for warning in warnings:
        complain(f"warning: {plain(warning['path'])}: {plain(warning['message'])}")


def plain(value: object) -> str:
    """A value as text on one line, without control characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _CONTROL.sub(" ", text)


def number(value: object) -> str:
    """A number short enough for people."""
    return f"{value:.4g}" if isinstance(value, float) else plain(value)


def local_time(stamp: object) -> str:
    """An API's time on this machine's clock; a dash where there is none."""
    if not isinstance(stamp, str):
        return "-"
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: object) -> str:
    """`1:02:03`, from seconds."""
    if not isinstance(seconds, int | float):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Lines of columns that line up; `width` cuts them, so the last column is the one that may be long."""
    sizes = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip() for row in (head, *rows)
    ]
    return [line if width is None or len(line) <= width else line[: width - 1] + "…" for line in lines]


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)
