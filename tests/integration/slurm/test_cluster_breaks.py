"""A cluster that breaks: jobs stay as they are, and say why."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest
from attrs import evolve

from backends.slurm.client import CommandLine, NotReached, Script
from backends.slurm.rows import name_of
from common.backend import DumpStacks, Handle
from common.errors import BackendUnavailable
from common.folder import Pair
from common.job import Reason
from tests.local_runs import STOPS
from tests.slurm_cluster import Cluster
from tests.slurm_runs import SlurmRuns, detail, ended, until, with_settings

pytestmark = pytest.mark.slow

WAITS = 'tell("progress", step=1)\ntime.sleep(600)\n'
DONE = 'tell("end", step=1)\n'
SUBMITTED = {"submitted": 1, "restart": 0}
NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups"


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


async def test_a_controller_that_hangs_fails_no_run_and_holds_up_no_call_for_ever(
    runs: SlurmRuns, slurm: Cluster
) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec('tell("progress", step=1)\nuntil("go")\n' + DONE))
    await runs.claimed()
    with_settings(runs, slurm_call_seconds=0.5)
    impatient = await runs.backend()
    with slurm.hung("slurmctld"):
        said = await detail(impatient, handle, "Slurm does not answer squeue")
        assert "nothing within 0.5 s" in said
        with pytest.raises(BackendUnavailable, match="nothing within"):
            await runs.submit(impatient, runs.spec(DONE), runs.job("next"))
        with pytest.raises(BackendUnavailable):  # it may have arrived
            await impatient.find(runs.job("next"), 1)
    (runs.folder().path / "go").touch()
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


async def test_a_number_that_slurm_gives_anew_is_never_ended_for_ours(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    stranger = slurm.call("sbatch", "--parsable", "--mem=100", "--output=/dev/null", "--wrap=sleep 600").strip()
    slurm.until(lambda: slurm.states()[stranger] == "RUNNING")
    handle = Handle(uid=runs.job().uid, job_id="job-1", attempt=1, data={**SUBMITTED, "slurm_id": int(stranger)})
    runs.folder().attempt(Pair(1)).mkdir(parents=True)
    await backend.cancel(handle, 20)
    await backend.send(handle, DumpStacks(id="d"))
    await backend.cancel(handle, 0)
    assert slurm.states()[stranger] == "RUNNING"
    slurm.call("scancel", "--signal=TERM", "--batch", stranger)
    slurm.until(lambda: slurm.states()[stranger] != "RUNNING")


async def test_a_partition_that_is_hidden_from_the_user_hides_no_run(
    runs: SlurmRuns, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = name_of("job-1", runs.job().uid, 1)
    for command in ("sbatch", "squeue", "sinfo"):  # root sees all
        script = tmp_path / command
        script.write_text(f'#!/bin/sh\nexec {NOBODY} {shutil.which(command)} "$@"\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    wanted = Script((f"--job-name={name}", "--mem=100", "--output=/dev/null", "--chdir=/"), "#!/bin/sh\nsleep 600\n")
    transport = CommandLine(20, 2)
    try:
        number = await transport.submit(wanted)
        slurm.call("scontrol", "update", "partitionname=main", "hidden=yes")
        assert number in [row.id for row in await transport.rows()]
        assert [kind.partition for kind in await transport.nodes()] == ["main"]
    finally:
        slurm.call("scontrol", "update", "partitionname=main", "hidden=no")
        transport.close()


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
