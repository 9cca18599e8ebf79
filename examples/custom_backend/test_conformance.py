"""The nice backend keeps every promise of a backend."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

from trainyard.testing import BackendConformance, RunningService


class TestNice(BackendConformance):
    name = "nice"

    @asynccontextmanager
    async def broken(self, service: RunningService, job_id: str) -> AsyncIterator[None]:
        """Nothing is found on the PATH."""
        with patch.dict(os.environ, PATH=""):
            yield
