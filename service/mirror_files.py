"""The three files of a job's log folder, and `.mirror.json`: how far each of them was written, and from where.

Masked text and its source differ in length, so the place in the source is noted, not derived. Bytes are written first
and noted after: what a kill left behind the noted size is cut off before anything more is written.
"""

import json
import os
from pathlib import Path
from typing import Any

import cattrs
from attrs import evolve, frozen

from service.logs import View, read_chunk

_NOTE = ".mirror.json"
_FORMAT = 1
_PIECE = 1 << 20


@frozen(kw_only=True)
class Kept:
    """Sizes in bytes of what is written, the last event in it, and the place in the job folder's `train.log`."""

    uid: str
    event_id: int = 0
    events: int = 0
    metrics: int = 0
    log: int = 0
    offset: int = 0


def load(folder: Path, uid: str) -> Kept:
    """How far the folder was written for this job.

    Files that are not this job's (another uid, or no note at all) are set aside; one that lost bytes is written anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = _read(folder / _NOTE)
    if kept is None or kept.uid != uid:
        for name in ("train.log", "metrics.jsonl", "events.jsonl"):
            _set_aside(folder / name)
        return _noted(folder, Kept(uid=uid))
    if _size(folder / "events.jsonl") < kept.events or _size(folder / "metrics.jsonl") < kept.metrics:
        kept = evolve(kept, event_id=0, events=0, metrics=0)
    if _size(folder / "train.log") < kept.log:
        kept = evolve(kept, log=0, offset=0)
    return kept


def append(folder: Path, kept: Kept, events: bytes, metrics: bytes, event_id: int) -> Kept:
    """Write events and their metrics; both or, as far as the note tells, none."""
    _write(folder / "events.jsonl", kept.events, events)
    _write(folder / "metrics.jsonl", kept.metrics, metrics)
    return _noted(
        folder,
        evolve(kept, events=kept.events + len(events), metrics=kept.metrics + len(metrics), event_id=event_id),
    )


def copy_log(source: Path, folder: Path, kept: Kept, view: View, limit: int, ended: bool) -> Kept:
    """Write what `source` has grown by, masked.

    Past three quarters of `limit` nothing more is written until the job's end; then its last quarter is.
    """
    while True:
        if kept.log >= limit // 4 * 3:
            if not ended:
                return kept
            kept = _pass_over(source, folder, kept, limit // 4)
        chunk = read_chunk(source, kept.offset, _PIECE, view, ended=ended)
        if not chunk.text:
            return kept
        _write(folder / "train.log", kept.log, chunk.text)
        kept = _noted(folder, evolve(kept, log=kept.log + len(chunk.text), offset=chunk.offset))


def _pass_over(source: Path, folder: Path, kept: Kept, rest: int) -> Kept:
    """Leave out all but the last `rest` bytes that were not copied, with a line that says so."""
    start = _size(source) - rest
    if start <= kept.offset:
        return kept
    line = f"\n… {start - kept.offset} bytes left out …\n".encode()
    _write(folder / "train.log", kept.log, line)
    return _noted(folder, evolve(kept, log=kept.log + len(line), offset=start))


def _write(path: Path, size: int, data: bytes) -> None:
    """Cut the file to `size` bytes, then append. Raises `OSError` where it is shorter: somebody changed it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        if os.fstat(descriptor).st_size < size:
            raise OSError(f"{path} lost bytes since they were written; it is written anew")
        file.truncate(size)
        file.seek(size)
        file.write(data)


def _noted(folder: Path, kept: Kept) -> Kept:
    aside = folder / f"{_NOTE}.new"
    aside.write_text(json.dumps({"format": _FORMAT, **cattrs.unstructure(kept)}))
    aside.rename(folder / _NOTE)
    return kept


def _read(path: Path) -> Kept | None:
    try:
        record: dict[str, Any] = json.loads(path.read_bytes())
        return cattrs.structure({k: v for k, v in record.items() if k != "format"}, Kept)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError, cattrs.BaseValidationError):
        return None


def _set_aside(path: Path) -> None:
    """Rename a file that is somebody else's to `<name>.<n>`."""
    if not path.exists():
        return
    number = 1
    while path.with_name(f"{path.name}.{number}").exists():
        number += 1
    path.rename(path.with_name(f"{path.name}.{number}"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
