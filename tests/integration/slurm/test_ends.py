"""How runs end under a real Slurm: by themselves, by Slurm, by others, and by what breaks."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from attrs import evolve

from common.errors import BackendUnavailable
from common.folder import Pair
from common.job import Reason
from tests.local_runs import STOPS as _STOPS
from tests.local_runs import kinds
from tests.slurm_cluster import Cluster
from tests.slurm_runs import SlurmRuns, begun_again, ended, follow, with_settings
from trainyard.guard import processes_of

pytestmark = pytest.mark.slow

#: Slurm signals every process and the guard passes it on: the second signal must not meet a program that is ending.
STOPS = _STOPS.replace("sys.exit(75)", "os._exit(75)")
#: Slurm's controller never answers, and whether the signal got anywhere is not said.
LOSES_TERM = """#!/bin/sh
case "$*" in *--signal=TERM*) echo "scancel: error: Socket timed out on send/recv operation" >&2; exit 1;; esac
exec {} "$@"
"""
WAITS = 'tell("progress", step=1)\ntime.sleep(600)\n'


async def test_a_run_is_told_in_order_from_its_claim_to_its_exit_code(runs: SlurmRuns) -> None:
    backend = await runs.backend()
    said = 'print("said"); tell("phase", phase="training"); tell("progress", step=1); tell("end", step=1)'
    program = f"{said}\nsys.exit(65)"
    handle = await runs.submit(backend, runs.spec(program))
    events = await follow(backend, handle)
    assert [kind for kind in kinds(events) if kind != "RunDetail"] == [
        *("RunBegan", "job.phase", "job.progress", "RunEnded")
    ]
    end = events[-1].what
    assert (end.code, end.signal, end.reason, end.step, end.log_tail) == (65, None, None, 1, "said")
    assert handle.backend_job_id == str(handle.data["slurm_id"])


async def test_a_run_gets_the_gpus_that_slurm_gives_it(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    program = 'told = json.loads((job / "spec.json").read_text())["devices"]\n'
    program += 'print("devices", os.environ["CUDA_VISIBLE_DEVICES"], told)'
    handles = [
        await runs.submit(backend, runs.spec(program + "\nsys.exit(3)", gpus=gpus), runs.job(f"job-{gpus}"))
        for gpus in (2, 0)
    ]
    assert [(await ended(backend, handle)).log_tail for handle in handles] == ["devices 0,1 None", "devices  []"]


async def test_scancel_by_others_is_told_as_theirs_with_the_last_step(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(STOPS + WAITS))
    await runs.claimed()
    slurm.call("scancel", str(handle.backend_job_id))
    end = await ended(backend, handle)
    assert (end.reason, end.code, end.step) == (Reason.CANCELLED_OUTSIDE, 75, 3)
    assert "scancel" in (end.explanation or "")


async def test_our_cancel_is_gentle_once_and_told_when_no_step_is_left(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(STOPS + WAITS))
    await runs.claimed()
    for _ in range(2):
        await backend.cancel(handle, 20)
    end = await ended(backend, handle)
    assert (end.reason, end.code, end.step) == (None, 75, 3)
    assert slurm.states()[str(handle.backend_job_id)] == "FAILED"
    assert not slurm.call("squeue", "-h")
    assert runs.folder().log.read_text().count("SIGTERM came") == 1


async def test_a_program_of_ones_own_is_asked_to_leave_where_the_signal_was_lost(
    runs: SlurmRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scancel = tmp_path / "scancel"
    scancel.write_text(LOSES_TERM.format(shutil.which("scancel")))
    scancel.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    backend = await runs.backend()
    spec = runs.spec(STOPS + WAITS)
    handle = await runs.submit(backend, evolve(spec, engine="command", argv=(*spec.argv, str(runs.folder().path))))
    await runs.claimed()
    with pytest.raises(BackendUnavailable, match="timed out"):
        await backend.cancel(handle, 20)
    await backend.cancel(handle, 20)
    end = await ended(backend, handle)
    assert (end.reason, end.code, end.step) == (None, 75, 3)
    assert "a `stop` line came (it is not sure that SIGTERM arrived): SIGTERM" in runs.folder().log.read_text()


async def test_a_run_that_is_deaf_to_everything_is_ended_by_slurm_after_its_grace(
    runs: SlurmRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backends.slurm.backend._SLACK_SECONDS", 0.5)
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(WAITS))
    await runs.claimed()
    guard = int(json.loads((runs.folder().attempt(Pair(1)) / "owner.json").read_text())["pid"])
    os.kill(guard, signal.SIGSTOP)  # what it would do within its grace is not done
    await backend.cancel(handle, 5)
    end = await ended(backend, handle)
    assert end.reason is None
    assert end.signal in {signal.SIGTERM, signal.SIGKILL}
    assert processes_of(f"{handle.uid}.1.0") == []


async def test_a_job_that_waits_is_cancelled_and_never_claims(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    slurm.call("scontrol", "update", "partitionname=main", "state=down")
    try:
        handle = await runs.submit(backend, runs.spec(WAITS))
        await backend.cancel(handle, 20)
        end = await ended(backend, handle)
    finally:
        slurm.call("scontrol", "update", "partitionname=main", "state=up")
    assert (end.code, end.reason) == (77, None)
    assert not (runs.folder().path / "attempts").exists()


async def test_a_killed_guard_is_a_killed_run_that_leaves_nothing(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handle = await runs.submit(backend, runs.spec(WAITS))
    await runs.claimed()
    slurm.call("scancel", "--signal=KILL", "--batch", str(handle.backend_job_id))
    end = await ended(backend, handle)
    assert (end.signal, end.reason) == (signal.SIGKILL, None)
    assert processes_of(f"{handle.uid}.1.0") == []


async def test_memory_beyond_what_was_asked_for_is_told_from_the_logs_line(runs: SlurmRuns) -> None:
    backend = await runs.backend()
    program = 'tell("progress", step=1)\nheld = b"x" * (600 << 20)\ntime.sleep(600)\n'
    end = await ended(backend, await runs.submit(backend, runs.spec(program, memory_mib=100)))
    assert end.reason is Reason.OUT_OF_MEMORY
    assert "exceeded memory limit" in (end.log_tail or "")


async def test_a_lost_node_ends_the_run_or_begins_it_again(runs: SlurmRuns, slurm: Cluster) -> None:
    backend = await runs.backend()
    handles = [
        await runs.submit(backend, runs.spec(WAITS, restarts=again, cpus=3), runs.job(job_id))
        for job_id, again in (("once", False), ("twice", True))
    ]
    for job_id in ("once", "twice"):
        await runs.claimed(job_id)
    slurm.lose_nodes()
    end = await ended(backend, handles[0])
    assert (end.reason, end.step) == (Reason.NODE_FAILURE, 1)
    restarted = await begun_again(backend, handles[1])
    assert (restarted.reason in (Reason.NODE_FAILURE, Reason.PREEMPTED), restarted.handle.attempt) == (True, 2)
    assert str(runs.folder("twice").fence()) == "1.1"
    slurm.bring_nodes_back()
    await runs.claimed("twice", "1.1")
    await backend.cancel(restarted.handle, 20)
    assert (await ended(backend, restarted.handle)).signal == signal.SIGTERM


async def test_a_script_that_can_not_start_says_so(runs: SlurmRuns) -> None:
    with_settings(runs, slurm_setup="module() { echo no such module $2; exit 4; }\nmodule load nosuch")
    backend = await runs.backend()
    end = await ended(backend, await runs.submit(backend, runs.spec(WAITS)))
    assert (end.reason, end.code, end.log_tail) == (Reason.EXIT_CODE, 4, "no such module nosuch")
    assert "TRAINYARD_SLURM_SETUP" in (end.explanation or "")


async def test_a_log_that_can_not_be_opened_is_told(runs: SlurmRuns) -> None:
    runs.folder().log.mkdir(parents=True)
    backend = await runs.backend()
    end = await ended(backend, await runs.submit(backend, runs.spec(WAITS)))
    assert end.reason is Reason.REJECTED
    assert "JobLaunchFailure" in (end.explanation or "")
