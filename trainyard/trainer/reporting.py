"""What a run tells the service: lines appended to its own `events.jsonl` (docs/TRAINER.md, "Events")."""

import errno
import json
import logging
import math
import os
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from common.clock import stamp
from common.folder import FORMAT
from trainyard.trainer.failures import DiskFull

EVENT_BYTES = 64 * 1024
_TEXT_CHARACTERS = 8_000
_LOGS_A_SECOND = 20
log = logging.getLogger("trainyard.trainer")


class Reporter:
    """Appends events, each by one `write()`; the fence is looked at before each.

    `n` counts from 1 in the attempt, over the processes that follow each other in it: the launcher, then the first of
    the run's processes. The others are `silent`.
    """

    def __init__(
        self,
        attempt_dir: Path,
        check_fence: Callable[[], None],
        mask: Callable[[str], str] = str,
        silent: bool = False,
    ) -> None:
        self._path = attempt_dir / "events.jsonl"
        self._check_fence = check_fence
        self.mask = mask
        self.step = 0
        self.acked: set[str] = set()
        """Commands that earlier processes of this attempt answered."""
        self._silent = silent
        self._second, self._said, self._unsaid = 0, 0, 0
        if not silent:
            self.go_on()

    def go_on(self) -> None:
        """Count from where the file ends: another process of this attempt may have told events."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._n, self._phase = 0, ""
        if not stat.S_ISREG(os.fstat(self._file).st_mode):
            return
        told = self._path.read_bytes()
        whole = told.rfind(b"\n") + 1
        if whole < len(told):
            os.ftruncate(self._file, whole)
        for line in told[:whole].splitlines():
            self._n += 1
            event = json.loads(line)
            if event["type"] == "ack":
                self.acked.add(event["data"]["id"])
            if event["type"] == "phase":
                self._phase = event["data"]["phase"]

    def event(self, kind: str, data: Mapping[str, object]) -> None:
        """Append one event. Raises `Fenced` when this run may not write any more, `DiskFull` when there is no room."""
        if self._silent:
            return
        self._check_fence()
        record = {
            "format": FORMAT,
            "n": self._n + 1,
            "type": kind,
            "at": stamp(time.time()),
            "data": _clean(data, self.mask),
        }
        line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace") + b"\n"
        if len(line) > EVENT_BYTES:
            record["data"] = {"truncated": True, "message": f"an event of {len(line)} bytes was left out"}
            line = json.dumps(record).encode() + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as e:
            raise DiskFull(f"{self._path}: an event could not be written: {e.strerror}") from e
        self._n += 1

    def phase(self, phase: str) -> None:
        """The run turned to another part of its work; told when it is not told already."""
        if self._silent or phase == self._phase:
            return
        self._phase = phase
        log.info("phase: %s", phase)
        self.event("phase", {"phase": phase})

    def log(self, message: str, level: str = "info", **more: object) -> None:
        """Say something on purpose: to the log, and as an event with `more` (20 a second, the rest is counted)."""
        if self._silent:
            return
        log.log(logging.WARNING if level == "warning" else logging.INFO, "%s", message)
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._said = second, 0
        if self._said >= _LOGS_A_SECOND:
            self._unsaid += 1
            return
        self._said += 1
        unsaid = {"left_out": self._unsaid} if self._unsaid else {}
        self._unsaid = 0
        self.event("log", {"message": message, "level": level, **unsaid, **more})

    def ack(self, command_id: str, ok: bool, message: str | None = None, step: int | None = None) -> None:
        """Answer a command; `step` is the one that a change holds from."""
        told = {"id": command_id, "ok": ok, "message": message, "step": step}
        self.event("ack", {name: value for name, value in told.items() if value is not None})

    def end(self, step: int, final_uri: str | None = None) -> None:
        """The last line of a run."""
        self.event("end", {"step": step} | ({"final_uri": final_uri} if final_uri else {}))


def _clean(value: object, mask: Callable[[str], str]) -> object:
    """JSON has no NaN, an event no endless text and no secret."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        value = mask(value)
        return value if len(value) <= _TEXT_CHARACTERS else value[:_TEXT_CHARACTERS] + "…"
    if isinstance(value, Mapping):
        return {str(k): _clean(v, mask) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v, mask) for v in value]
    return value
