"""The local backend keeps every promise of a backend."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from trainyard.testing import BackendConformance, RunningService

pytestmark = pytest.mark.slow


class TestLocal(BackendConformance):
    name = "local"

    @asynccontextmanager
    async def broken(self, service: RunningService, job_id: str) -> AsyncIterator[None]:
        """No run of this job can be started: a folder lies where its guard's lock belongs."""
        in_the_way = service.folder(job_id).path / "guard.1"
        if in_the_way.exists():  # it runs already, and nothing that breaks now can harm it
            yield
            return
        in_the_way.mkdir(parents=True)
        yield
        in_the_way.rmdir()
