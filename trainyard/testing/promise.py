"""How a broken promise is said: which one, what was seen, what would be right."""

from collections.abc import Sequence
from typing import Any


def kept(holds: object, promise: str, seen: object, right: object) -> None:
    """Fail with a message that explains itself where the promise does not hold."""
    __tracebackhide__ = True
    if not holds:
        raise AssertionError(f"the promise: {promise}\n  seen:  {seen}\n  right: {right}")


def ended_as(job: dict[str, Any], events: Sequence[dict[str, Any]], status: str, promise: str) -> dict[str, Any]:
    """The data of the job's last event, after a look at its status."""
    __tracebackhide__ = True
    last = events[-1]
    kept(job["status"] == status, promise, f"{last['type']}: {last['message']} {last['data']}", f"the job is {status}")
    return dict(last["data"])
