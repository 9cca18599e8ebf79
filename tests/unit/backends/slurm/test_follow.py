"""One run, look by look: claims that show late, and what a run is told before it claims."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define

from backends.slurm.backend import SlurmBackend
from backends.slurm.follow import Follower
from backends.slurm.query import Look
from backends.slurm.rows import Row
from common.backend import BackendContext, Change, DumpStacks, Handle
from common.clock import Clock
from common.devices import DevicePool
from common.folder import JobFolder, Pair
from common.settings import Settings

UID = "ab" * 16


def handle(restart: int = 0) -> Handle:
    data = {"slurm_id": 7, "submitted": 1, "restart": restart}
    return Handle(uid=UID, job_id="job-1", attempt=1 + restart, backend_job_id="7", data=data)


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[SlurmBackend]:
    context = BackendContext(settings=Settings(data_dir=tmp_path), clock=Clock(), devices=DevicePool(()))
    made = SlurmBackend(context)
    yield made
    await made.close()


@define
class SetClock(Clock):
    at: float = 0.0

    def monotonic(self) -> float:
        return self.at


def follower(folder: JobFolder, clock: Clock) -> Follower:
    known: dict[str, Any] = {"pair": Pair(1), "cursor": None, "lost_seconds": 10.0, "began": 0.0}
    return Follower(folder=folder, handle=handle(), clock=clock, **known)


def look(number: int, *states: str) -> Look:
    rows = [Row(id=7, uid=UID, attempt=1, state=state) for state in states]
    return Look(number=number, began=float(number), rows={(UID, 1): rows})


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED"])
def test_a_run_whose_claim_shows_late_is_no_lost_one(tmp_path: Path, state: str) -> None:
    clock, folder = SetClock(), JobFolder(tmp_path)
    following = follower(folder, clock)
    assert not following.look(look(1, "RUNNING")).over
    assert not following.look(look(2, state)).over
    clock.at = 5.0
    claim = folder.attempt(Pair(1))
    claim.mkdir(parents=True)
    (claim / "exit.json").write_text(json.dumps({"code": 0, "signal": None}))
    found = following.look(look(3, state))
    assert (found.claimed, found.over) == (True, True)
    assert following.end(following.row).code == 0


def test_a_script_that_never_claimed_is_over_after_a_while_and_one_that_never_began_at_once(tmp_path: Path) -> None:
    clock = SetClock()
    following = follower(JobFolder(tmp_path), clock)
    assert not following.look(look(1, "COMPLETED")).over
    clock.at = 10.0
    assert following.look(look(1, "COMPLETED")).over
    waited = follower(JobFolder(tmp_path), clock)
    waited.look(look(1, "PENDING"))
    assert waited.look(look(2, "CANCELLED")).over


def test_an_end_that_accounting_missed_is_told_from_the_runs_outcome_or_after_a_while(tmp_path: Path) -> None:
    clock, folder = SetClock(), JobFolder(tmp_path)
    following = follower(folder, clock)
    following.look(look(1, "RUNNING"))
    for clock.at in (0.0, 10.0):
        forgotten = following.look(look(int(clock.at) + 2)).forgotten
    assert forgotten, "it is not listed any more"
    assert not following.outlived()
    assert not following.look(look(20)).forgotten, "accounting is not asked again at once"
    clock.at += 3600
    assert following.outlived()
    other = follower(folder, clock)
    claim = folder.attempt(Pair(1))
    claim.mkdir(parents=True)
    assert not other.outlived()
    (claim / "exit.json").write_text(json.dumps({"code": 0, "signal": None}))
    assert other.outlived()


async def test_a_change_before_the_next_restart_claims_is_told_to_that_one(backend: SlurmBackend) -> None:
    folder = JobFolder(backend.context.settings.jobs_dir / "job-1")
    folder.attempt(Pair(1)).mkdir(parents=True)
    change = Change(id="c", values={"log_every": 1})
    await backend.send(handle(restart=1), change)
    folder.attempt(Pair(1, 2)).mkdir()
    await backend.send(handle(restart=1), change)
    told = [json.loads(line)["attempt"] for line in folder.control.read_text().splitlines()]
    assert told == ["1.1", "1.2"]


async def test_stacks_are_asked_of_every_machine_of_a_run(
    backend: SlurmBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (command := tmp_path / "scancel").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    ranks = JobFolder(backend.context.settings.jobs_dir / "job-1").attempt(Pair(1)) / "ranks"
    await backend.send(handle(), DumpStacks(id="d"))
    ranks.mkdir(parents=True)
    await backend.send(handle(), DumpStacks(id="d"))
    assert [path.name for path in ranks.iterdir()] == ["stacks"]
    assert (tmp_path / "asked").read_text() == 2 * f"--name=job-1.{UID}.1 --signal=USR2 --batch 7\n"
