"""A run is asked to leave by one SIGTERM, whatever becomes of the call that passes it on."""

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from backends.slurm import stopping
from backends.slurm.backend import SlurmBackend
from common.backend import BackendContext, Handle
from common.clock import Clock
from common.devices import DevicePool
from common.errors import BackendUnavailable
from common.folder import JobFolder, Pair
from common.settings import Settings

HANDLE = Handle(uid="ab" * 16, job_id="job-1", attempt=1, data={"slurm_id": 7, "submitted": 1, "restart": 0})
TERM = f"--name=job-1.{HANDLE.uid}.1 --signal=TERM --batch 7"
PERHAPS = "scancel: error: Kill job error on job id 7: Socket timed out on send/recv operation"
NEVER = "scancel: error: Kill job error on job id 7: Unable to contact slurm controller (connect failure)"
#: A `scancel` that notes what it was called with, and complains as long as there is something to complain of.
SCANCEL = """#!/bin/sh
cd '{folder}' && echo "$*" >>sent && [ ! -s complaint ] || { cat complaint >&2; exit 1; }
"""


@pytest.fixture
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], SlurmBackend]]:
    """Makes a backend over a run that has claimed its attempt; once more: that of a restarted service."""
    (command := tmp_path / "scancel").write_text(SCANCEL.replace("{folder}", str(tmp_path)))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    folder(tmp_path).attempt(Pair(1)).mkdir(parents=True)
    made: list[SlurmBackend] = []

    def make() -> SlurmBackend:
        context = BackendContext(settings=Settings(data_dir=tmp_path), clock=Clock(), devices=DevicePool(()))
        made.append(SlurmBackend(context))
        return made[-1]

    yield make
    for backend in made:
        await backend.close()


def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(Settings(data_dir=tmp_path).jobs_dir / "job-1")


def sent(tmp_path: Path) -> list[str]:
    return (tmp_path / "sent").read_text().splitlines() if (tmp_path / "sent").exists() else []


def told(tmp_path: Path) -> list[tuple[str, str, str]]:
    control = folder(tmp_path).control
    records = map(json.loads, control.read_text().splitlines() if control.exists() else [])
    return [(record["id"], record["attempt"], record["command"]) for record in records]


async def test_a_signal_that_may_have_arrived_is_never_sent_again_and_the_wish_arrives_by_a_line(
    service: Callable[[], SlurmBackend], tmp_path: Path
) -> None:
    (tmp_path / "complaint").write_text(PERHAPS)
    with pytest.raises(BackendUnavailable, match="timed out"):
        await service().cancel(HANDLE, 20)
    assert told(tmp_path) == []
    (tmp_path / "complaint").unlink()
    for _ in range(2):
        await service().cancel(HANDLE, 20)
    assert sent(tmp_path) == [TERM]
    assert told(tmp_path) == [("stop-1.0", "1.0", "stop")]


async def test_a_signal_that_never_reached_slurm_is_sent_again(
    service: Callable[[], SlurmBackend], tmp_path: Path
) -> None:
    (tmp_path / "complaint").write_text(NEVER)
    with pytest.raises(BackendUnavailable, match="connect failure"):
        await service().cancel(HANDLE, 20)
    (tmp_path / "complaint").unlink()
    for _ in range(2):
        await service().cancel(HANDLE, 20)
    assert sent(tmp_path) == [TERM, TERM]
    assert told(tmp_path) == []


async def test_a_kill_before_the_signal_loses_no_wish(service: Callable[[], SlurmBackend], tmp_path: Path) -> None:
    stopping.note_asked(folder(tmp_path), Pair(1))
    await service().cancel(HANDLE, 20)
    assert sent(tmp_path) == []
    assert told(tmp_path) == [("stop-1.0", "1.0", "stop")]


@pytest.mark.parametrize("note", [stopping.note_asked, stopping.note_arrived])
def test_the_grace_is_counted_by_our_own_clock_whatever_the_file_servers_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Callable[[JobFolder, Pair], None]
) -> None:
    (there := folder(tmp_path)).path.mkdir(parents=True)
    ahead = time.time() + 500  # ours: the files' times are those of this machine
    monkeypatch.setattr(time, "time", lambda: ahead)
    note(there, Pair(1))
    assert stopping.asked(there, Pair(1)) == pytest.approx(0, abs=1)


async def test_a_disk_without_room_for_a_note_keeps_no_run_from_leaving(
    service: Callable[[], SlurmBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stopping, "note_asked", full)
    monkeypatch.setattr(stopping, "note_arrived", full)
    await service().cancel(HANDLE, 20)
    assert sent(tmp_path) == [TERM]
