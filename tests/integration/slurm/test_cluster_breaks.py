"""A cluster that breaks: jobs stay as they are, and say why."""

import asyncio
import json

import pytest
from attrs import evolve

from backends.slurm.client import NotReached
from common.errors import BackendUnavailable
from common.job import Reason
from tests.local_runs import STOPS
from tests.slurm_cluster import Cluster
from tests.slurm_runs import SlurmRuns, detail, ended, until

pytestmark = pytest.mark.slow

WAITS = 'tell("progress", step=1)\ntime.sleep(600)\n'
DONE = 'tell("end", step=1)\n'


async def test_a_deaf_controller_fails_no_run_and_what_ended_meanwhile_is_told(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec('tell("progress", step=1)\nuntil("go")\n' + DONE))
    await runs.claimed()
    with slurm.without("slurmctld"):
        said, refused = await asyncio.gather(
            detail(backend, handle, "Slurm does not answer"),
            runs.submit(backend, runs.spec(DONE), runs.job("next")),
            return_exceptions=True,
        )
        assert "Unable to contact slurm controller" in str(said)
        assert isinstance(refused, NotReached)
        (runs.folder().path / "go").touch()
        await until(lambda: (runs.folder().path / "attempts/1.0/exit.json").exists())
        assert await backend.find(runs.job("next"), 1) is None, "nothing of it can have reached Slurm"
        assert "Slurm does not answer" in ((await backend.capacity()).reason or "")
    assert (await ended(backend, handle)).code == 0


async def test_without_munge_a_submission_waits_with_the_reason(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    with slurm.without("munged"), pytest.raises(BackendUnavailable, match="munge"):
        await runs.submit(backend, runs.spec(DONE))
    assert (await ended(backend, await runs.submit(backend, runs.spec(DONE)))).code == 0


async def test_a_submission_without_a_stored_handle_is_found_by_its_name(runs: SlurmRuns, slurm: Cluster) -> None:
    first, slurm_ids = await runs.backend(), []
    slurm.call("scontrol", "update", "partitionname=main", "state=down")
    try:
        slurm_ids = [(await runs.submit(first, runs.spec(DONE))).backend_job_id for _ in range(2)]
        second = await runs.backend()
        found = await second.find(runs.job(), 1)
        assert found is not None
        assert found.backend_job_id in slurm_ids
        assert await second.find(runs.job("never"), 1) is None
    finally:
        slurm.call("scontrol", "update", "partitionname=main", "state=up")
    assert (await ended(second, found)).code == 0
    assert len(list((runs.folder().path / "attempts").iterdir())) == 1
    await until(lambda: {slurm.states()[str(number)] for number in slurm_ids} == {"COMPLETED"})


async def test_a_job_that_slurm_forgot_is_lost_unless_it_left_an_outcome(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(DONE))
    assert (await ended(backend, handle)).code == 0
    await _forget(slurm, str(handle.backend_job_id))
    assert (await ended(await runs.backend(), handle)).code == 0


async def test_a_number_that_slurm_gives_anew_is_not_taken_for_ours(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(DONE))
    assert (await ended(backend, handle)).code == 0
    asked = backend.poll.asked
    lost = await ended(backend, evolve(handle, uid="cd" * 16, job_id="other"))
    assert lost.reason is Reason.LOST
    assert "does not know its job any more" in (lost.explanation or "")
    assert backend.poll.asked >= asked + 2, "one empty answer never means that a job is gone"


async def test_one_question_serves_all_runs(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handles = [await runs.submit(backend, runs.spec(STOPS + WAITS), runs.job(f"job-{n}")) for n in range(6)]
    began = asyncio.get_running_loop().time()
    tasks = [asyncio.create_task(ended(backend, handle)) for handle in handles]
    for n in range(6):
        await runs.claimed(f"job-{n}")
    for handle in handles:
        await backend.cancel(handle, 20)
    assert {end.code for end in await asyncio.gather(*tasks)} == {75}
    seconds = asyncio.get_running_loop().time() - began
    assert backend.poll.asked <= seconds / backend.poll.seconds + 1


async def test_a_job_that_never_can_start_says_why(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(DONE, nodes=3))
    assert await detail(backend, handle, "its partition")
    await backend.cancel(handle, 1)
    assert (await ended(backend, handle)).code == 77


async def _forget(slurm: Cluster, number: str) -> None:
    """Let the controller forget its ended jobs, as it does after `MinJobAge`: it loses its state."""
    slurm.kill("slurmctld")
    for file in (slurm.folder / "state").glob("job_state*"):
        file.unlink()
    slurm.up()
    assert number not in slurm.states(), json.dumps(slurm.jobs())
