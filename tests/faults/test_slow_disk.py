"""What is flushed while others look on: a disk that takes its time loses no run, no order and no fence."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Barrier, Thread

import pytest

import common.folder
from backends.local import client
from backends.runs.run import Run
from common.errors import BackendUnavailable
from common.folder import JobFolder, Pair, write_whole
from trainyard import guard
from trainyard.trainer.ranks import Ended, Ranks


class Unsigned:
    """A run that has claimed, and whose guard still waits for the disk to take `owner.json`."""

    def __init__(self, folder: Path) -> None:
        self.run = Run(JobFolder(folder), "5e" * 16, Pair(1))
        assert guard.claim(self.run.claim)
        self.stdin = os.open(folder / "guard.1", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self.stdin, fcntl.LOCK_SH)

    def end(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
        self.stdin = -1

    def stop(self) -> None:
        client.stop(self.run.folder, self.run.uid, 1)


@pytest.fixture
def unsigned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unsigned]:
    monkeypatch.setattr(client, "sleep", lambda _: None)
    run = Unsigned(tmp_path)
    yield run
    run.end()


def test_a_run_that_has_claimed_lives_before_its_guard_could_sign(unsigned: Unsigned) -> None:
    assert client.alive(unsigned.run)
    unsigned.end()
    assert not client.alive(unsigned.run)


def test_a_run_whose_guard_could_not_sign_yet_is_asked_to_leave_again_later(unsigned: Unsigned) -> None:
    with pytest.raises(BackendUnavailable, match="has not said yet which process it is"):
        unsigned.stop()
    unsigned.end()
    unsigned.stop()
    assert unsigned.run.folder.fence() is None


def test_a_guard_that_signs_while_it_is_looked_for_is_asked_to_leave_again_later(
    unsigned: Unsigned, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_early(run: Run) -> None:
        (run.claim / "owner.json").write_text("{}")

    monkeypatch.setattr(client, "guard_of", too_early)
    with pytest.raises(BackendUnavailable):
        unsigned.stop()


def test_a_guard_holds_its_lock_before_it_signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "attempt").write_text("2.0\n")
    alive: list[bool] = []
    monkeypatch.setattr(guard, "sign", lambda folder: alive.append(client._locked(folder / "lock")))
    assert guard.guard(tmp_path, (1, 0), ["true"], 1.0, 1 << 20) == guard.FENCED
    assert alive == [True]


def fenced(folder: Path) -> None:
    guard.fenced(folder, (2, 1))


def raised(folder: Path) -> None:
    JobFolder(folder).raise_fence(Pair(2))


def closed(folder: Path) -> None:
    JobFolder(folder).raise_fence(Pair(3))


@pytest.mark.parametrize(
    ("slow", "quick", "after"), [(fenced, closed, "3.0"), (raised, fenced, "2.1"), (raised, closed, "3.0")]
)
def test_a_fence_that_is_being_raised_is_not_sunk(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    slow: Callable[[Path], None],
    quick: Callable[[Path], None],
    after: str,
) -> None:
    beside = Thread(target=quick, args=(tmp_path,))
    flush = os.fsync

    def late(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", flush)
        beside.start()
        beside.join(0.3)  # where nothing holds it back it is done by then
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", late)
    slow(tmp_path)
    beside.join()
    assert (tmp_path / "attempt").read_text() == f"{after}\n"


def test_a_fence_is_raised_also_where_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    raised(tmp_path)
    fenced(tmp_path)
    assert (tmp_path / "attempt").read_text() == "2.1\n"
    assert guard.hold(tmp_path / "lock", 60.0)[1] == "no locks here"


def test_a_fence_is_raised_also_while_somebody_does_not_let_go_of_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common.folder, "_FENCE_SECONDS", 0.1)
    with (tmp_path / "attempt.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        raised(tmp_path)
    assert JobFolder(tmp_path).fence() == Pair(2)


def test_two_threads_that_write_one_file_disturb_each_other_in_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, flush = Barrier(2), os.fsync

    def together(descriptor: int) -> None:
        both.wait(60)
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", together)
    failed: list[OSError] = []

    def write(content: bytes) -> None:
        try:
            write_whole(tmp_path / "attempt", content)
        except OSError as e:
            failed.append(e)

    threads = [Thread(target=write, args=(content,)) for content in (b"2.0\n", b"10.0\n")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert [path.read_text() for path in tmp_path.iterdir()] in (["2.0\n"], ["10.0\n"])


def test_who_ended_first_is_known_before_the_disk_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks, killed = Ranks(tmp_path), Ended(1, None, 9, "ended by SIGKILL", 0.0)
    seen: list[Ended | None] = []
    monkeypatch.setattr(os, "fsync", lambda _: seen.append(ranks.first(0)))
    ranks.enter(1)
    ranks.name_first(killed)
    assert None not in seen
    assert ranks.first(0) == killed
    assert ranks.pids() == {1: os.getpid()}


def test_a_deep_validation_whose_service_was_killed_as_it_started_leaves() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        program = [sys.executable, "-P", "-m", "trainyard.trainer.preflight"]
        process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=writer, stderr=subprocess.PIPE, text=True)
        assert process.wait(60) == 1, "it does not wait for a document"
        assert process.stderr is not None
        assert "the reader of the answer is gone" in process.stderr.read()
    finally:
        os.close(writer)
        process.kill()
        process.communicate()
