"""Work that is worth nothing when the caller has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp import web

T = TypeVar("T")

_LOOK_SECONDS = 0.25


async def while_connected(request: web.Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the connection ends. Raises `ConnectionResetError` then."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_SECONDS)
            if not task.done() and (request.transport is None or request.transport.is_closing()):
                raise ConnectionResetError("the caller has gone")
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})
