"""Runs under a real Slurm."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.slurm_cluster import Cluster
from tests.slurm_runs import SlurmRuns, slurm_runs

#: Some kernels have no control groups of version 1 any more, and no command could give them: nothing is left to skip.
collect_ignore = [] if Path("/sys/fs/cgroup/memory").is_dir() else ["test_memory_limit.py"]


@pytest.fixture
async def runs(slurm: Cluster, tmp_path: Path) -> AsyncIterator[SlurmRuns]:
    async with slurm_runs(tmp_path) as made:
        yield made
