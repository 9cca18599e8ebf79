"""A backend's own word on a run, without the service between."""

import asyncio

from common.backend import BackendEvent, Cursor, Handle
from trainyard.testing.service import RunningService

_SECONDS = 30.0


async def told(service: RunningService, handle: Handle, cursor: Cursor | None) -> list[BackendEvent]:
    """All that `watch` tells from a cursor on, until it ends."""
    events: list[BackendEvent] = []
    try:
        async with asyncio.timeout(_SECONDS * service.pace):
            async for event in service.backend.watch(handle, cursor):
                events.append(event)  # noqa: PERF401 what came before a time-out is shown
    except TimeoutError as e:
        raise AssertionError(
            f"`watch` of {handle} from {cursor} did not end within {_SECONDS * service.pace:.0f} s; it told:\n  "
            + "\n  ".join(str(event.what) for event in events)
        ) from e
    return events
