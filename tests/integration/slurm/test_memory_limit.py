"""A cluster whose kernel keeps runs to their memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.job import Reason
from tests.slurm_cluster import Cluster, slurm_cluster
from tests.slurm_runs import ended, slurm_runs

pytestmark = pytest.mark.slow

EATS = 'tell("progress", step=1)\nheld = b"x" * (600 << 20)\ntime.sleep(600)\n'


@pytest.fixture
def limiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The kernel keeps to the memory that was asked for. Its control groups have the node's name."""
    if not any(Path("/sys/fs/cgroup", name).exists() for name in ("memory", "cgroup.controllers")):
        pytest.skip("no control groups are mounted: `mount -t cgroup2 cgroup2 /sys/fs/cgroup` would do")
    with slurm_cluster("--cgroup", "--nodes", "1", "--prefix", f"c{Path.cwd().stat().st_ino % 997}x") as made:
        monkeypatch.setenv("SLURM_CONF", made.conf)
        yield made


async def test_slurms_own_word_for_too_much_memory_is_the_reason(limiting: Cluster, tmp_path: Path) -> None:
    async with slurm_runs(tmp_path) as runs:
        backend = await runs.backend()
        handle = await runs.submit(backend, runs.spec(EATS, memory_mib=150))
        end = await ended(backend, handle)
        assert limiting.states()[str(handle.backend_job_id)] == "OUT_OF_MEMORY"
        assert (end.reason, end.code, end.signal) == (Reason.OUT_OF_MEMORY, None, 9)
