"""Cancelled, killed, orphaned: afterwards nothing of a run is left, and its place is free."""

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.local import client
from backends.runs.run import claimed
from common.backend import Handle
from common.folder import Pair
from common.job import Reason
from tests.local_runs import STOPS, LocalRuns, ended, follow, kinds, local_runs

GRANDCHILD = """
script = "import os, time; os.setsid(); open('g', 'w').write(str(os.getpid())); os.rename('g', 'grandchild');"
script += "time.sleep(99)"
subprocess.Popen([sys.executable, "-I", "-S", "-c", script])
until("grandchild")
tell("progress", step=2)
"""


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[LocalRuns]:
    async with local_runs(tmp_path) as made:
        yield made


@pytest.fixture
async def patient(tmp_path: Path) -> AsyncIterator[LocalRuns]:
    """A program that heeds SIGTERM has its time."""
    async with local_runs(tmp_path, grace_seconds=20) as made:
        yield made


def exists(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    return False


def guard_pid(runs: LocalRuns) -> int:
    return int(json.loads((runs.folder().path / "attempts/1.0/owner.json").read_text())["pid"])


async def begun(runs: LocalRuns, program: str) -> Handle:
    backend = runs.backend()
    handle = await runs.submit(backend, runs.spec(program))
    events = runs.folder().path / "attempts/1.0/events.jsonl"
    await runs.until(lambda: events.exists() and events.stat().st_size)
    return handle


async def test_cancel_leaves_a_checkpoint_and_no_grandchild(patient: LocalRuns) -> None:
    handle = await begun(patient, STOPS + GRANDCHILD + "time.sleep(99)")
    grandchild = int((patient.folder().path / "grandchild").read_text())
    assert exists(grandchild)
    backend = patient.backends[0]
    await backend.cancel(handle, 0.5)
    await backend.cancel(handle, 0.5)
    events = await follow(backend, handle)
    assert kinds(events) == ["RunBegan", "job.progress", "job.checkpoint", "RunEnded"]
    assert (events[-1].what.code, events[-1].what.reason) == (75, None)  # type: ignore[union-attr]
    assert patient.alive() == []
    assert not exists(grandchild)
    assert patient.folder().log.read_text().count("SIGTERM came") == 1
    assert (await backend.capacity()).free == {"gpu": 0, "cpu": 1}


async def test_a_run_that_heeds_nothing_is_killed_after_the_grace(runs: LocalRuns) -> None:
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    handle = await begun(runs, deaf + GRANDCHILD + "time.sleep(99)")
    backend, since = runs.backends[0], time.monotonic()
    await backend.cancel(handle, 0.5)
    end = await ended(backend, handle)
    assert (end.code, end.signal, end.step) == (None, 9, 2)
    assert 0.4 < time.monotonic() - since < 30
    assert runs.alive() == []


async def test_a_run_is_cancelled_by_a_restarted_service(patient: LocalRuns) -> None:
    handle = await begun(patient, STOPS + "tell('progress', step=1); time.sleep(99)")
    after = patient.backend()
    await after.cancel(handle, 0.5)
    assert (await ended(after, handle)).code == 75


async def test_cancel_before_the_claim_shuts_the_late_guard_out(runs: LocalRuns) -> None:
    backend, spec = runs.backend(), runs.spec("tell('progress', step=1)")
    handle = await runs.submit(backend, spec, runs.job("warm"))
    await ended(backend, handle)
    job = runs.job()
    runs.folder().make({"uid": job.uid, "job_id": job.job_id, "devices": []}, 1, None)
    unclaimed = Handle(uid=job.uid, job_id=job.job_id, attempt=1, data={"devices": []})
    await backend.cancel(unclaimed, 0.5)
    assert runs.folder().fence() == Pair(2)
    backend._children.add(backend._start(job, 1, spec, ()))
    assert (await ended(backend, unclaimed)).code == 77
    assert not (runs.folder().path / "attempts/1.0/events.jsonl").exists()


async def test_a_run_whose_guard_was_killed_is_lost_and_its_orphan_ended(runs: LocalRuns) -> None:
    handle = await begun(runs, GRANDCHILD + "time.sleep(99)")
    orphans = runs.alive()
    assert len(orphans) == 2
    os.kill(guard_pid(runs), signal.SIGKILL)
    events = await follow(runs.backends[0], handle)
    assert kinds(events) == ["RunBegan", "job.progress", "RunEnded"]
    end = events[-1].what
    assert (end.reason, end.code, end.step) == (Reason.LOST, None, 2)  # type: ignore[union-attr]
    assert end.explanation == "the run's guard is gone and left no outcome; 2 of its processes were ended"  # type: ignore
    assert runs.alive() == []
    assert not any(map(exists, orphans))
    assert runs.folder().fence() == Pair(2)
    assert (await runs.backends[0].capacity()).free == {"gpu": 0, "cpu": 1}


async def test_a_run_without_a_lock_is_not_lost_while_its_guard_lives(runs: LocalRuns) -> None:
    handle = await begun(runs, "tell('progress', step=1); time.sleep(1.2)")
    for lock in ("attempts/1.0/lock", "guard.1"):
        (runs.folder().path / lock).unlink()
    assert (await ended(runs.backends[0], handle)).code == 0


@pytest.mark.slow
async def test_a_run_whose_folder_was_removed_is_ended_too(runs: LocalRuns) -> None:
    handle = await begun(runs, GRANDCHILD + "time.sleep(99)")
    shutil.rmtree(runs.folder().path)
    assert (await ended(runs.backends[0], handle)).reason is Reason.LOST
    assert runs.alive() == []


async def test_a_pid_that_is_another_process_now_is_no_guard(runs: LocalRuns) -> None:
    handle = await begun(runs, "tell('progress', step=1); until('go')")
    owner = runs.folder().path / "attempts/1.0/owner.json"
    run = claimed(runs.folder(), handle.uid, 1)
    assert run is not None
    assert client.guard_of(run) == guard_pid(runs)
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"pid": os.getpid()}))
    assert client.guard_of(run) is None
    owner.write_text(json.dumps({"pid": guard_pid(runs), "boot_id": "another"}))
    assert client.guard_of(run) is None
    assert client.alive(run)
    (runs.folder().path / "go").touch()
    assert (await ended(runs.backends[0], handle)).code == 0
