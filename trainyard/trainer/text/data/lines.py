"""Files of lines: jsonl and csv, one line at a time."""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from trainyard.trainer.failures import DataError
from trainyard.trainer.text.data.material import RowError

#: The longest line that is read.
LINE_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"PAR1": "parquet"}
_ENCODE = "save the file as UTF-8"
_CSV_OF_JSON = ("messages", "conversations")
#: A row's number and the row, or what is wrong with it.
Item = tuple[int, Any]


def jsonl(path: Path) -> Iterator[Item]:
    """The values of a file of JSON lines; empty lines are passed over."""
    for number, line in _lines(path):
        if isinstance(line, RowError):
            yield number, line
        elif not line.isspace():
            try:
                yield number, orjson.loads(line)
            except orjson.JSONDecodeError:
                yield number, _slowly(line)


def csv_header(path: Path, name: str) -> list[str]:
    """The column names of a csv file. Raises `DataError` when it has none that can be used."""
    columns = next((cells for _, cells in _csv_rows(path) if cells != []), [])
    if isinstance(columns, RowError):
        raise DataError(f"{name}: its header {columns}")
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
        raise DataError(f"{name}: its header is one column, {columns[0]!r}; columns must be separated by commas")
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise DataError(f"{name}: its header names column {twice[0]!r} twice")
    return columns


def csv_rows(path: Path, name: str) -> Iterator[Item]:
    """The rows of a csv file under their header, each with the line that it begins on; empty lines are passed over."""
    columns = csv_header(path, name)
    rows = ((number, cells) for number, cells in _csv_rows(path) if cells != [])
    next(rows, None)
    for number, cells in rows:
        if isinstance(cells, RowError):
            yield number, cells
        elif len(cells) != len(columns):
            yield number, RowError(f"has {len(cells)} cells, the header {len(columns)}")
        else:
            yield number, _unpacked(dict(zip(columns, cells, strict=True)))


def _lines(path: Path) -> Iterator[tuple[int, bytes | RowError]]:
    """The lines with their numbers; of one that is too long the rest is passed over."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if number == 1 and line.startswith(_BOM):
                line = line.removeprefix(_BOM)
            if len(line) > LINE_BYTES and not line.endswith(b"\n"):
                while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
                    pass
                yield number, RowError(f"is a line of more than {LINE_BYTES >> 20} MiB")
            elif line:
                yield number, line


def _slowly(line: bytes) -> Any:
    """What the strict reader refused: a number beyond its range is read, and what is wrong is said with its column."""
    try:
        return json.loads(line.rstrip(b"\r\n").decode())
    except UnicodeDecodeError as e:
        packed = next((kind for mark, kind in _PACKED.items() if line.startswith(mark)), None)
        return RowError(f"is {packed}; unpack the file" if packed else f"is not UTF-8 (byte {e.start + 1}); {_ENCODE}")
    except json.JSONDecodeError as e:
        return RowError(f"is not JSON: {e.msg} (column {e.colno}); each line must be one object")
    except (RecursionError, ValueError) as e:
        return RowError(f"is not JSON that can be read: {type(e).__name__}")


class _Text:
    """The lines as text, for a reader that knows only strings; `problem` is what was wrong since it was last taken."""

    def __init__(self, path: Path) -> None:
        self._lines = _lines(path)
        self._problem: RowError | None = None
        self.begun: int | None = None

    def __iter__(self) -> "_Text":
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.begun = self.begun or number
        if isinstance(line, RowError):
            self._problem = self._problem or line
            return "\n"
        try:
            return line.decode()
        except UnicodeDecodeError as e:
            self._problem = self._problem or RowError(f"is not UTF-8 (byte {e.start + 1} of line {number}); {_ENCODE}")
            return line.decode(errors="replace")

    def taken(self) -> tuple[int, RowError | None]:
        """Where the row that was just read began, and what was wrong with its lines."""
        begun, problem = self.begun or 1, self._problem
        self.begun = self._problem = None
        return begun, problem


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str] | RowError]]:
    csv.field_size_limit(LINE_BYTES)
    text = _Text(path)
    reader = csv.reader(text, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as e:
            begun, problem = text.taken()
            yield begun, problem or RowError(f"is not csv: {e}")
            continue
        begun, problem = text.taken()
        yield begun, problem or cells


def _unpacked(row: dict[str, str]) -> Mapping[str, Any] | RowError:
    """A cell of messages is JSON; an empty cell is none."""
    found: dict[str, Any] = {key: cell for key, cell in row.items() if cell or key not in _CSV_OF_JSON}
    for key in _CSV_OF_JSON:
        if key in found:
            try:
                found[key] = orjson.loads(found[key])
            except orjson.JSONDecodeError as e:
                return RowError(f"{key} must be JSON in a csv file: {e.msg} (column {e.colno})")
    return found
