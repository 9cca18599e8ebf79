"""A job's log and the mirror that keeps the log folder of its document."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from common.settings import Settings
from service.mirror import Mirror
from service.store.base import Store
from tests.folders import folders

SECRET = "hf_s3cret-token"


def write(settings: Settings, text: str, name: str = "job-1") -> None:
    """As the job writes it, at the end."""
    path = settings.jobs_dir / name / "train.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(text.encode())


@asynccontextmanager
async def running(store: Store, settings: Settings) -> AsyncIterator[Mirror]:
    mirror = Mirror(store, folders(store, settings), settings)
    task = asyncio.create_task(mirror.run())
    try:
        yield mirror
        assert not task.done(), "the mirror ended by itself"
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
