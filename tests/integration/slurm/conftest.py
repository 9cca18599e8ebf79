"""Runs under a real Slurm."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.slurm_cluster import Cluster
from tests.slurm_runs import SlurmRuns, slurm_runs


@pytest.fixture
async def runs(slurm: Cluster, tmp_path: Path) -> AsyncIterator[SlurmRuns]:
    async with slurm_runs(tmp_path) as made:
        yield made
