"""What a dataset is read from: one part a file, or the one of a hub dataset."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from os import strerror
from pathlib import Path

from attrs import frozen

from trainyard.trainer.failures import ConfigError, DataError, SourceRefused, first_line
from trainyard.trainer.text.data.files import files_of
from trainyard.trainer.text.data.lines import Item, csv_header, csv_rows, jsonl
from trainyard.trainer.text.data.material import Material, Unit
from trainyard.trainer.text.data.shapes import KEYS, OPTIONAL

_CHUNK = 256 << 10


@frozen
class Part:
    """Some rows of a dataset that can be read again and again."""

    name: str
    path: Path
    unit: Unit
    begin: Callable[[], Iterator[Item]]
    #: Where its bytes lie; nowhere for a streamed hub dataset.
    files: tuple[Path, ...]

    def read(self) -> Iterator[Item]:
        """The rows with their numbers, or what is wrong with one. Raises `DataError`, `SourceRefused`."""
        with _reading(self.name):
            yield from self.begin()

    def digest(self, check: Callable[[], None]) -> tuple[int, str]:
        """Bytes and sha256 of its files."""
        sum_, size = hashlib.sha256(), 0
        for path in self.files:
            with _reading(self.name), path.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    sum_.update(chunk)
                    size += len(chunk)
                    check()
        return size, sum_.hexdigest()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What the system says against a file is said with the file's name."""
    try:
        yield
    except PermissionError as e:
        raise SourceRefused(f"{name}: may not be read by the user that runs the job") from e
    except OSError as e:
        raise DataError(f"{name}: {strerror(e.errno) if e.errno else first_line(e)}") from e


def parts_of(material: Material) -> list[Part]:
    """The parts of a dataset, in their order. Raises `ConfigError`, `DataError`, `SourceRefused`."""
    form = material.format
    if form == "imagefolder":
        raise ConfigError(
            f"{material.at}.format: imagefolder holds pictures, which engine diffusion trains on; a text job reads "
            "jsonl, parquet, csv, arrow, hf or nemo (or set extra_parameters.engine to diffusion)"
        )
    if form == "hf":
        from trainyard.trainer.text.data.hub import open_dataset

        rows = open_dataset(material)
        return [Part(material.source, material.path or Path(material.hub or ""), "row", rows.read, rows.files)]
    if form not in _READERS:
        raise ConfigError(f"{material.at}.format: {form!r} must be one of {', '.join((*_READERS, 'hf'))}")
    read, unit = _READERS[form]
    files = files_of(material)
    parts = [Part(name, path, unit, partial(read, path, name), (path,)) for path, name in files]
    if len(parts) > 1:
        _check_alike([(part.name, _columns(part, form)) for part in parts])
    return parts


def _jsonl(path: Path, _name: str) -> Iterator[Item]:
    return jsonl(path)


def _parquet(path: Path, name: str) -> Iterator[Item]:
    from trainyard.trainer.text.data.tables import parquet

    return parquet(path, name)


def _arrow(path: Path, name: str) -> Iterator[Item]:
    from trainyard.trainer.text.data.tables import arrow

    return arrow(path, name)


_READERS: dict[str, tuple[Callable[[Path, str], Iterator[Item]], Unit]] = {
    "jsonl": (_jsonl, "line"),
    "nemo": (_jsonl, "line"),
    "csv": (csv_rows, "line"),
    "parquet": (_parquet, "row"),
    "arrow": (_arrow, "row"),
}


def _columns(part: Part, form: str) -> dict[str, str]:
    """The columns of a file and their types; of a jsonl file the keys that make the shape of its first row."""
    with _reading(part.name):
        return _columns_of(part, form)


def _columns_of(part: Part, form: str) -> dict[str, str]:
    if form in ("parquet", "arrow"):
        from trainyard.trainer.text.data.tables import columns

        return columns(part.path, part.name, form)
    if form == "csv":
        return dict.fromkeys(csv_header(part.path, part.name), "")
    first = next((row for _, row in part.read() if isinstance(row, dict)), {})
    return {key: "" for key in first if key in KEYS and key not in OPTIONAL}


def _check_alike(files: list[tuple[str, dict[str, str]]]) -> None:
    """Raises `DataError` naming two files that differ, and in what; a file without a row differs from none."""
    (other, before), *others = [(name, columns) for name, columns in files if columns] or [("", {})]
    for name, columns in others:
        differing = [
            key for key in sorted(columns.keys() | before.keys()) if _differ(columns.get(key), before.get(key))
        ]
        if differing:
            told = "; ".join(f"{key}: {_told(before, key)} there, {_told(columns, key)} here" for key in differing[:8])
            raise DataError(f"{name}: has other columns than {other} ({told}); the files of one dataset must be alike")


def _differ(one: str | None, other: str | None) -> bool:
    """A column of nothing but nulls may be of any type."""
    return one != other and not (one and other and "null" in (one, other))


def _told(columns: dict[str, str], key: str) -> str:
    return (columns[key] or "a column") if key in columns else "none"
