"""A store in a test's own folder."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from common.clock import Clock
from common.secret import SecretBox
from service.store.base import Store
from service.store.sqlite import open_store


@asynccontextmanager
async def store_in(
    folder: Path, published: Callable[[Any], None] = lambda _: None, writer_queue: int = 1000, event_bytes: int = 65536
) -> AsyncIterator[Store]:
    """Open until the end of the `with`."""
    told = {"writer_queue": writer_queue, "event_bytes": event_bytes, "on_fatal": lambda: None}
    made = await open_store(folder / "t.db", SecretBox(os.urandom(32)), Clock(), published, **told)
    try:
        yield made
    finally:
        await made.close()
