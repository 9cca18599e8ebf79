"""Events in the store: their JSON, their rows, and the cursors of their sources."""

import json
import math
import sqlite3
from collections.abc import Mapping

from attrs import frozen

from common.backend import Cursor
from common.job import Event
from common.json_text import to_text
from service.store.base import StoredEvent, is_end
from service.store.queries import load

SQL = load("events")
_MESSAGE_CHARACTERS = 500
_MOST_BYTES = 4  # that UTF-8 has for a character


@frozen
class Draft:
    """An event before it has an id."""

    job_id: str
    sequence: int
    attempt: int
    type: str
    status: str
    phase: str | None
    message: str
    time: str
    data: Mapping[str, object]


def encode(draft: Draft, limit: int) -> str:
    """The event as it is served, JSON without its id, at most `limit` bytes; what does not fit is cut and said."""
    record = {
        "job_id": draft.job_id,
        "sequence": draft.sequence,
        "attempt": draft.attempt,
        "type": draft.type,
        "status": draft.status,
        "phase": draft.phase,
        "message": one_line(draft.message),
        "time": draft.time,
        "data": draft.data,
    }
    text = _dumps(record)
    if len(text) * _MOST_BYTES <= limit:
        return text
    longest = limit // 2
    while len(text.encode()) > limit and longest >= 1:
        record["data"] = {**_cut(draft.data, longest), "truncated": True}
        text = _dumps(record)
        longest //= 2
    if len(text.encode()) > limit:
        record["data"] = {"truncated": True}
        text = _dumps(record)
    return text


def one_line(text: str) -> str:
    """`text` as one line of at most 500 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_CHARACTERS else line[: _MESSAGE_CHARACTERS - 1] + "…"


def served(event_id: int, data: str) -> str:
    """The stored JSON with its id in front."""
    return f'{{"id":{event_id},{data[1:]}'


def stored(event_id: int, uid: str, kind: str, data: str, told: bool = False) -> StoredEvent:
    return StoredEvent(event_id, uid, kind, served(event_id, data), is_end(kind.removeprefix("job.")), told)


def insert(connection: sqlite3.Connection, uid: str, draft: Draft, limit: int) -> tuple[Event, str]:
    """Append the event and return it with its id, as the fold takes it, and its stored JSON."""
    text = encode(draft, limit)
    row = (uid, draft.sequence, draft.attempt, draft.type, draft.time, text)
    event_id = connection.execute(SQL["insert_event"], row).lastrowid
    assert event_id is not None
    event = Event(
        id=event_id,
        job_id=draft.job_id,
        sequence=draft.sequence,
        attempt=draft.attempt,
        type=draft.type,
        status=draft.status,  # type: ignore[arg-type]
        phase=draft.phase,  # type: ignore[arg-type]
        message=draft.message,
        time=draft.time,
        data=draft.data,
    )
    return event, text


def move_cursor(connection: sqlite3.Connection, uid: str, attempt: int, cursor: Cursor) -> None:
    connection.execute(SQL["upsert_cursor"], (uid, attempt, cursor.file, cursor.n, cursor.offset))


def _dumps(record: object) -> str:
    try:
        text = to_text(record)
    except TypeError:  # a trainer's lone surrogate or huge integer
        text = json.dumps(_clean(record), ensure_ascii=False, separators=(",", ":"))
    return text


def _clean(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {str(_clean(str(k))): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    return value


def _cut(value: Mapping[str, object], longest: int) -> dict[str, object]:
    def cut(item: object) -> object:
        if isinstance(item, str) and len(item) > longest:
            return item[:longest] + "…"
        if isinstance(item, Mapping):
            return _cut(item, longest)
        if isinstance(item, list | tuple):
            return [cut(v) for v in item[: max(longest // 8, 1)]]
        return item

    return {k: cut(v) for k, v in value.items()}
