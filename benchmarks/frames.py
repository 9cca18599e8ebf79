"""The events that the stream benchmarks send: progress of one job, then its end."""

from collections.abc import Iterator

from common.event import Body, JobProgress, JobSucceeded
from service.bus import frame
from service.store.base import StoredEvent
from service.store.events import Draft, encode, stored

LAST = b"event: job.succeeded"


def progress(step: int, steps: int) -> JobProgress:
    """What a trainer reports of a step."""
    return JobProgress(
        step=step,
        total_steps=steps,
        epoch=round(step / steps, 6),
        loss=round(2.0 / (1.0 + step / 10), 6),
        learning_rate=2e-4,
        tokens_per_second=1234.5,
        eta_seconds=round((steps - step) * 0.25, 2),
    )


def chunks(events: int, burst: int) -> Iterator[bytes]:
    """The bytes that the service sends for the same events, `burst` of them together."""
    for first in range(1, events + 1, burst):
        steps = range(first, min(first + burst, events + 1))
        yield b"".join(frame(_stored(step + 2, progress(step, events))).sse for step in steps)
    yield frame(_stored(events + 3, JobSucceeded(step=events))).sse


def _stored(number: int, body: Body) -> StoredEvent:
    time = "2026-01-01T00:00:00.000000Z"
    draft = Draft("bench-0000000001", number, 1, body.type, "running", "training", body.message(), time, body.data())
    return stored(number, "0" * 26, body.type, encode(draft, 65536))
