"""What the lines of a run mean for the service, and what its last ones say of it all (contract trainer.md, 3)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, frozen

from common.backend import BackendEvent, Cursor, RunAck
from common.event import BadEvent, Body, JobLog, run_event
from common.event_file import READ_BYTES, Line, chunk, parse, whole

_LOGS_A_SECOND = 20


@define
class Told:
    """Turns lines into events: at most 20 of `job.log` a second, the rest counted."""

    file: str
    second: str | None = None
    said: int = 0
    left_out: int = 0

    def event(self, line: Line) -> BackendEvent | None:
        """What a line means for the service; None for what it is not told."""
        if line.type == "end":
            return None
        what = self._what(line)
        if isinstance(what, JobLog) and not self._may_log(line.at):
            self.left_out += 1
            return None
        if isinstance(what, JobLog) and self.left_out:
            what = JobLog(line=what.line, extra={**what.extra, "left_out": self.left_out})
            self.left_out = 0
        return BackendEvent(what=what, cursor=Cursor(file=self.file, n=line.n, offset=line.offset), at=line.at)

    def rest(self) -> BackendEvent | None:
        """A last word on what was left out."""
        if not self.left_out:
            return None
        return BackendEvent(what=JobLog(line=f"{self.left_out} messages were left out: see train.log"))

    def _what(self, line: Line) -> Body | RunAck:
        if line.type == "ack":
            data = line.data
            return RunAck(
                command_id=str(data.get("id")),
                ok=data.get("ok") is True,
                text=str(data.get("message") or ""),
                step=step if type(step := data.get("step")) is int else None,
            )
        try:
            return run_event(line.type, line.data)
        except BadEvent as e:
            return JobLog(line=f"an event of type {line.type!r} can't be read: {e}", extra={"n": line.n})

    def _may_log(self, at: str | None) -> bool:
        second = at[:19] if at else None
        if second != self.second:
            self.second, self.said = second, 0
        self.said += 1
        return self.said <= _LOGS_A_SECOND


@frozen(kw_only=True)
class LastWords:
    """What the end of an event file says of the whole run."""

    step: int | None = None
    final_uri: str | None = None
    error: str | None = None
    exit_code: int | None = None


def last_words(path: Path) -> LastWords:
    """Read from the file's end, so that it is known also when the lines themselves were told long ago."""
    reached = end = error = None
    data: Any
    for raw in _last_lines(path):
        line = parse(raw, 0)
        if line is None:
            continue
        data = line.data
        if line.type == "end":
            end = data
        elif line.type in ("progress", "checkpoint") and isinstance(data.get("step"), int):
            reached = data["step"]
        elif line.type == "log" and data.get("level") == "error" and "exit_code" in data:
            error = data
    end, error = end or {}, error or {}
    step, uri = end.get("step"), end.get("final_uri")
    return LastWords(
        step=step if isinstance(step, int) else reached,
        final_uri=uri if isinstance(uri, str) else None,
        error=str(error["message"]) if "message" in error else None,
        exit_code=error.get("exit_code"),
    )


def _last_lines(path: Path) -> Iterator[bytes]:
    try:
        start = max(path.stat().st_size - READ_BYTES, 0)
    except OSError:
        return
    lines = whole(chunk(path, start, READ_BYTES))
    if start:
        next(lines, None)
    yield from lines
