"""Events that runs post over HTTP: they are put behind those of the run's `events.jsonl`, which its backend reads.

From there on one way leads to the store, and the cursor moves in the transaction of the event.
"""

import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from common.clock import Clock, stamp
from common.errors import Conflict, Over, StorageFull, Unavailable
from common.event import BadEvent, run_event
from common.event_file import EventFile, Line
from common.folder import FORMAT, JobFolder, Pair
from common.json_text import to_text

MOST_ITEMS = 500
LARGEST_ITEM = 64 << 10
_LONGEST_WORD = 64
_OVER = "this attempt is over; the program must stop"


class _Stopped(ValueError):
    """An item that is not taken, and so none behind it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path, self.message = path, message


@frozen(kw_only=True)
class Taken:
    """How far the run's own numbers are taken, why not further, and the commands that wait for it."""

    through: int
    error: Mapping[str, object] | None = None
    commands: Sequence[Mapping[str, object]] = ()


@define
class _Run:
    """One attempt's events and commands, as far as they were read. Each use of it is under its lock, in a thread."""

    folder: JobFolder
    pair: Pair
    events: EventFile
    posted: int = 0
    acked: set[str] = field(factory=set)
    progress: Mapping[str, Any] = field(factory=dict)
    commands: list[Mapping[str, Any]] = field(factory=list)
    control: int = 0
    whole: bool = False
    """Whether the file was read to its end before."""
    lock: threading.Lock = field(factory=threading.Lock)

    def check_present(self) -> None:
        """Raises `Over`."""
        if self.over():
            raise Over(_OVER)

    def over(self) -> bool:
        """Whether the run was replaced or has left its outcome."""
        fence = self.folder.fence()
        return fence is None or fence > self.pair or (self.folder.attempt(self.pair) / "exit.json").exists()

    def read_on(self) -> None:
        """Raises `Conflict` where the file has a line that its reader would stop at, `Unavailable` for half of one."""
        more = True
        while more:
            lines, more = self.events.read()
            for line in lines:
                self.note(line)
        if self.events.unread() > 0:
            self.look_at_tail()
        self.whole = True

    def note(self, line: Line) -> None:
        self.posted = max(self.posted, line.posted or 0)
        if line.type == "ack":
            self.acked.add(str(line.data.get("id")))
        elif line.type == "progress":
            self.progress = line.data

    def look_at_tail(self) -> None:
        """Take away a line that a killed service had half written: nobody was told that it is taken."""
        with self.events.path.open("r+b") as file:
            file.seek(self.events.offset)
            if b"\n" in file.read():
                raise Conflict(f"{self.events.path} has a line that can't be read; tell events there or here, not both")
            if self.whole:
                raise Unavailable("an event is being written into the run's own file")
            file.truncate(self.events.offset)

    def append(self, records: Sequence[Mapping[str, object]]) -> None:
        """Number lines and write them at once. Raises `StorageFull`, and then nothing of them is there."""
        numbered = [{"format": FORMAT, "n": self.events.n + i, **record} for i, record in enumerate(records, 1)]
        data = "".join(to_text(record) + "\n" for record in numbered).encode()
        descriptor = os.open(self.events.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(descriptor).st_size
            try:
                written = os.write(descriptor, data)
            except OSError as e:
                raise StorageFull(f"events can't be written: {e.strerror}") from e
            if written < len(data):
                os.ftruncate(descriptor, before)
                raise StorageFull("events can't be written: no space is left for them")
        finally:
            os.close(descriptor)
        self.read_on()

    def waiting(self) -> list[Mapping[str, object]]:
        """The commands of this run that it has not acknowledged."""
        for raw in _whole_lines(self.folder.control, self.control):
            self.control += len(raw)
            record = _record(raw)
            if record.get("attempt") == str(self.pair) and isinstance(record.get("id"), str):
                self.commands.append({k: record[k] for k in ("id", "command", "values", "why") if k in record})
        self.commands = [command for command in self.commands if command["id"] not in self.acked]
        return list(self.commands)


class Posted:
    """The runs that post. After a restart of the service what is known of one is read from its files again."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._runs: dict[Path, _Run] = {}
        self._lock = threading.Lock()

    def take(self, folder: JobFolder, attempt: int, items: Sequence[object]) -> Taken:
        """Take the longest prefix that goes on from what there is. Blocks. Raises `Over`, `StorageFull`, `Conflict`."""
        run = self._run(folder, attempt)
        with run.lock:
            run.check_present()
            run.read_on()
            records, error = self._prefix(run, items)
            if records:
                run.append(records)
            return Taken(through=run.posted, error=error, commands=run.waiting())

    def progress(self, folder: JobFolder, attempt: int, data: Mapping[str, object]) -> None:
        """One `progress` beside the numbered ones; a step that it does not know follows from the last one.

        Blocks. Raises as `take` does.
        """
        run = self._run(folder, attempt)
        with run.lock:
            run.check_present()
            run.read_on()
            run.append([{"type": "progress", "at": self._now(), "data": with_step(data, run.progress)}])

    def _prefix(
        self, run: _Run, items: Sequence[object]
    ) -> tuple[list[Mapping[str, object]], Mapping[str, object] | None]:
        through, records = run.posted, []
        for place, item in enumerate(items):
            try:
                n = _number(item)
                if n <= through:
                    continue
                if n != through + 1:
                    raise _Stopped("n", f"must be {through + 1}, the next one; got {n}")
                records.append(self._checked(item, n))
            except _Stopped as e:
                at = f"[{place}].{e.path}" if e.path else f"[{place}]"
                return records, {"n": through + 1, "path": at, "message": e.message}
            through = n
        return records, None

    def _checked(self, item: Any, n: int) -> Mapping[str, object]:
        kind, at, data = item.get("type"), item.get("at"), item.get("data", {})
        if not isinstance(kind, str) or not 0 < len(kind) <= _LONGEST_WORD:
            raise _Stopped("type", f"must be a string of 1 to {_LONGEST_WORD} characters, as 'progress'")
        if at is not None and (not isinstance(at, str) or len(at) > _LONGEST_WORD):
            raise _Stopped("at", "must be a time of RFC 3339, as 2026-01-31T12:00:00Z, or be left out")
        if not isinstance(data, dict):
            raise _Stopped("data", "must be an object")
        if kind == "ack" and not (isinstance(data.get("id"), str) and isinstance(data.get("ok"), bool)):
            raise _Stopped("data", "an ack has `id`, the command's, and `ok`, true or false")
        if kind not in ("ack", "end"):
            try:
                run_event(kind, data)
            except BadEvent as e:
                raise _Stopped(e.path, e.message) from e
        record = {"type": kind, "at": at or self._now(), "data": data, "posted": n}
        if (size := len(to_text(record).encode())) > LARGEST_ITEM:
            raise _Stopped("", f"has {size} bytes, and an event may have {LARGEST_ITEM}")
        return record

    def _now(self) -> str:
        return stamp(self._clock.now())

    def _run(self, folder: JobFolder, attempt: int) -> _Run:
        pairs = folder.restarts(attempt)
        if not pairs:
            fence = folder.fence()
            if fence is None or fence > Pair(attempt):
                raise Over(_OVER)
            raise Unavailable("the run has not begun yet")
        claim = folder.attempt(pairs[-1])
        with self._lock:
            if claim not in self._runs:
                self._runs = {path: run for path, run in self._runs.items() if not run.over()}
                self._runs[claim] = _Run(folder, pairs[-1], EventFile(claim / "events.jsonl"))
            return self._runs[claim]


def _number(item: object) -> int:
    if not isinstance(item, dict):
        raise _Stopped("", "must be an object: {n, type, at, data}")
    if item.get("format", FORMAT) != FORMAT:
        raise _Stopped("format", f"must be {FORMAT}")
    n = item.get("n")
    if type(n) is not int or n < 1:
        raise _Stopped("n", "must be an integer ≥ 1, counted from 1 in the attempt")
    return n


def with_step(data: Mapping[str, object], last: Mapping[str, Any]) -> Mapping[str, object]:
    """A step is asked of every progress: without one it is the share of all steps, else the last one known."""
    total = data.get("total_steps", last.get("total_steps"))
    known = {} if total is None else {"total_steps": total}
    if "step" in data:
        return {**known, **data}
    percent = data.get("percent")
    if isinstance(percent, int | float) and isinstance(total, int):
        return {"step": int(percent * total / 100), **known, **data}
    return {"step": last.get("step", 0), **known, **data}


def _whole_lines(path: Path, offset: int) -> list[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _record(raw: bytes) -> dict[str, Any]:
    try:
        record = json.loads(raw)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
