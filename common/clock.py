"""The one clock and the one maker of ids, passed in wherever time or identity matters."""

import os
import time
from datetime import UTC, datetime


class Clock:
    """Wall time for people and records, monotonic time for waiting."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def stamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds and `Z`; sorts as text (contract train.md, 4)."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def seconds(text: str) -> float:
    """The epoch seconds of a `stamp`."""
    return datetime.fromisoformat(text).timestamp()


def new_id() -> str:
    """A unique id of 26 hexadecimal characters that sorts by the time it was made (milliseconds, then chance)."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(7).hex()}"
