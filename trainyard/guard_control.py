"""What the service wants of a run while it goes on, for its guard. The standard library alone (`guard.py`)."""

import contextlib
import json
from pathlib import Path
from typing import Any

Pair = tuple[int, int]


class Control:
    """Reads `control.jsonl` for what the service wants of this attempt: another deadline, or that it leaves."""

    def __init__(self, path: Path, pair: Pair) -> None:
        self.path, self.pair, self.offset = path, pair, 0
        self.stop: str | None = None
        """Why a `stop` line wants the run to leave."""

    def deadline(self, present: float | None) -> float | None:
        """The newest deadline in minutes, `present` where nothing was changed since the last call."""
        try:
            tail = self.path.read_bytes()[self.offset :]
        except OSError:
            return present
        for line in tail.splitlines(keepends=True):
            if not line.endswith(b"\n") or b"\0" in line:
                break  # not all of it can be seen yet
            self.offset += len(line)
            with contextlib.suppress(ValueError, TypeError, AttributeError):
                present = self.apply(json.loads(line), present)
        return present

    def apply(self, record: dict[str, Any], present: float | None) -> float | None:
        n, _, restart = str(record["attempt"]).partition(".") if "attempt" in record else ("-1", "", "")
        values, command = record.get("values") or {}, record.get("command")
        if (int(n), int(restart or 0)) != self.pair or command not in ("change", "stop"):
            return present
        if command == "stop":
            self.stop = str(record.get("why") or "the service wants it")
            return present
        return minutes(values["deadline_minutes"]) if "deadline_minutes" in values else present


def minutes(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"deadline_minutes must be a number > 0 or null, got {value!r}")
    return float(value)
