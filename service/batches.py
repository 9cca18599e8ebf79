"""What a source has ready, taken together."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def batches(source: AsyncIterator[T], most: int) -> AsyncGenerator[list[T], None]:
    """Items in their order, as many at once as came while the last ones were dealt with, at most about `most`.

    Raises what the source raises, behind the items before it; to leave the iterator is to leave the source.
    """
    waiting: deque[T] = deque()
    ready, room = asyncio.Event(), asyncio.Event()

    async def read() -> None:
        try:
            async for item in source:
                waiting.append(item)
                ready.set()
                while len(waiting) >= most:
                    room.clear()
                    await room.wait()
        finally:
            ready.set()

    reader = asyncio.create_task(read())
    try:
        while True:
            await ready.wait()
            ready.clear()
            over = reader.done()
            if found := list(waiting):
                waiting.clear()
                room.set()
                yield found
            if over:
                reader.result()
                return
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        if hasattr(source, "aclose"):
            await source.aclose()
