"""What only some clusters have: accounting."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.slurm.rows import name_of
from common.job import Reason
from tests.slurm_cluster import Cluster, slurm_cluster
from tests.slurm_runs import SlurmRuns, ended, slurm_runs

pytestmark = pytest.mark.slow

WAITS = 'tell("progress", step=1)\ntime.sleep(600)\n'


@pytest.fixture
def accounting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with slurm_cluster("--dbd") as made:
        monkeypatch.setenv("SLURM_CONF", made.conf)
        yield made


async def test_what_the_controller_forgot_is_asked_of_accounting(accounting: Cluster, tmp_path: Path) -> None:
    async with slurm_runs(tmp_path) as runs:
        backend = await runs.backend()
        handle = await runs.submit(backend, runs.spec(WAITS))
        await runs.claimed()
        number = str(handle.backend_job_id)
        accounting.call("scancel", number)
        # Its end may come to the accounting before its start, which has its name.
        known = ("sacct", "-X", "-n", "-S", "now-1hour", "--name", name_of("job-1", handle.uid, 1), "-o", "State")
        accounting.until(lambda: "CANCELLED" in accounting.call(*known))
        _forget(accounting)
        end = await ended(backend, handle)
        assert (end.reason, end.step) == (Reason.CANCELLED_OUTSIDE, 1), end
        assert (await _found(runs)) == number


async def _found(runs: SlurmRuns) -> str | None:
    """By the name alone: its folder is gone."""
    runs.folder().path.rename(runs.folder("moved").path)
    handle = await (await runs.backend()).find(runs.job(), 1)
    return handle.backend_job_id if handle else None


def _forget(cluster: Cluster) -> None:
    cluster.kill("slurmctld")
    for file in (cluster.folder / "state").glob("job_state*"):
        file.unlink()
    cluster.up()
    assert cluster.jobs() == []
