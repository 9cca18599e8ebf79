"""`run`: a job of the caller's own trainer."""

import pytest

from tests.integration.service.own_runs import OwnRun


@pytest.fixture
async def run(client, settings, tmp_path):
    made = OwnRun(client, settings.jobs_dir, tmp_path)
    yield made
    await made.end()
