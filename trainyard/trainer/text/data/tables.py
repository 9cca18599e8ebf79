"""Files of columns: parquet and arrow, a batch of rows at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.trainer.failures import DataError, first_line
from trainyard.trainer.text.data.lines import Item
from trainyard.trainer.text.data.material import RowError
from trainyard.trainer.text.data.shapes import KEYS

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_ONCE = 1_000


def parquet(path: Path, name: str) -> Iterator[Item]:
    """The rows of a parquet file, of the columns that can be trained on. Raises `DataError` when it is damaged."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            known = _known(file.schema_arrow.names)
            yield from _numbered(file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=known))
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(e, name, "parquet") from e


def arrow(path: Path, name: str) -> Iterator[Item]:
    """The rows of an Arrow IPC file or stream (feather is one). Raises `DataError` when it is damaged."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            _, batches = _ipc(file)
            yield from _numbered(
                batch.select(_known(batch.schema.names)).slice(at, _ROWS_AT_ONCE)
                for batch in batches
                for at in range(0, batch.num_rows, _ROWS_AT_ONCE)
            )
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(e, name, "arrow") from e


def columns(path: Path, name: str, form: str) -> dict[str, str]:
    """The columns of a file and their types, as two files of one dataset must agree on them."""
    import pyarrow as pa
    from pyarrow.parquet import read_schema

    try:
        if form == "parquet":
            schema = read_schema(path)
        else:
            with pa.memory_map(str(path)) as file:
                schema, _ = _ipc(file)
    except (pa.ArrowException, OSError) as e:
        raise _unreadable(e, name, form) from e
    return {field.name: _plain(field.type) for field in schema}


def _ipc(file: Any) -> "tuple[pa.Schema, Iterator[pa.RecordBatch]]":
    """The schema and the batches of an IPC file, else of an IPC stream."""
    import pyarrow as pa

    if file.read(6) == b"ARROW1":
        reader = pa.ipc.open_file(file)
        return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
    file.seek(0)
    stream = pa.ipc.open_stream(file)
    return stream.schema, iter(stream)


def _numbered(batches: "Iterator[pa.RecordBatch]") -> Iterator[Item]:
    number = 0
    for batch in batches:
        for row in _rows(batch):
            number += 1
            yield number, row


def _rows(batch: "pa.RecordBatch") -> list[Any]:
    """The rows as objects without their nulls; text that is no UTF-8 spoils its own row only."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError as e:
        if batch.num_rows == 1:
            return [RowError(f"is not UTF-8 (byte {e.start + 1} of a column)")]
        return [row for i in range(batch.num_rows) for row in _rows(batch.slice(i, 1))]
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def _known(names: list[str]) -> list[str]:
    """The columns that make a shape; all of them where there is none, for the message."""
    return [name for name in names if name in KEYS] or names


def _plain(kind: "pa.DataType") -> str:
    """The type's name; the ways to store one thing are one."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return str(kind).replace("large_", "").replace("string_view", "string")


def _unreadable(error: Exception, name: str, form: str) -> Exception:
    if isinstance(error, OSError) and error.errno:
        return error
    return DataError(
        f"{name}: is not {form} that can be read (damaged, cut off, or of another format): {first_line(error)}"
    )
