"""What is known of files is kept, and true."""

import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, get_ident

import orjson
import pytest

from trainyard.trainer.diffusion.data import images, known
from trainyard.trainer.failures import StopNow


@pytest.fixture
def folder(paint):
    """Four pictures that nobody has touched for a while."""
    made = paint("a", w=(32, 32), x=(64, 64), y=(64, 48), z=(48, 64))
    for path in made.iterdir():
        age(path, 60)
    return made


@pytest.fixture
def read(monkeypatch):
    """Names of the files that were read."""
    names = []

    def noted(path):
        names.append(path.name)
        return images.look(path)

    monkeypatch.setattr(known, "look", noted)
    return names


def age(path: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(path, (at, at))


def facts(folder: Path, cache: Path | None, check=lambda: None):
    names = sorted(path.name for path in folder.iterdir())
    return known.Known.of(folder, cache).facts(names, check, workers=2)


def test_a_second_look_reads_nothing(folder, tmp_path, read):
    first = facts(folder, tmp_path / "cache")
    assert sorted(read) == ["w.png", "x.png", "y.png", "z.png"]
    read.clear()
    assert facts(folder, tmp_path / "cache") == first
    assert read == []
    assert first["y.png"].size == (64, 48)


def test_a_file_with_a_problem_is_looked_at_each_time(folder, tmp_path, read):
    (folder / "w.png").write_bytes(b"no picture")
    age(folder / "w.png", 60)
    first = facts(folder, tmp_path / "cache")
    read.clear()
    assert facts(folder, tmp_path / "cache") == first and "is no image" in first["w.png"].problem
    assert read == ["w.png"], "another Pillow may read it"
    (file,) = (tmp_path / "cache").glob("*.jsonl")
    stat = (folder / "x.png").stat()
    line = orjson.dumps(["x.png", stat.st_size, stat.st_mtime_ns, "", 0, 0, 1, "is no image that can be read"])
    file.write_bytes(file.read_bytes() + line + b"\n")
    assert facts(folder, tmp_path / "cache")["x.png"].size == (64, 64)


def test_without_a_cache_everything_is_read_again(folder, read):
    facts(folder, None)
    facts(folder, None)
    assert len(read) == 8


def test_a_changed_a_new_and_a_renamed_file_are_noticed(folder, tmp_path, read):
    before = facts(folder, tmp_path)
    read.clear()
    (folder / "x.png").write_bytes((folder / "z.png").read_bytes())
    (folder / "y.png").rename(folder / "new.png")
    age(folder / "x.png", 30)
    after = facts(folder, tmp_path)
    assert sorted(read) == ["new.png", "x.png"]
    assert after["x.png"].sha256 == before["z.png"].sha256 and "y.png" not in after
    os.utime(folder / "z.png")
    read.clear()
    facts(folder, tmp_path)
    assert read == ["z.png"]


def test_a_file_that_was_just_written_is_not_yet_believed(folder, tmp_path, read):
    os.utime(folder / "x.png")
    facts(folder, tmp_path)
    read.clear()
    facts(folder, tmp_path)
    assert read == ["x.png"]


def test_what_was_read_before_a_kill_is_kept(folder, tmp_path, read, monkeypatch):
    monkeypatch.setattr(known, "_KEPT_AT_ONCE", 2)

    def killed():
        if len(read) == 4:
            raise StopNow

    with pytest.raises(StopNow):
        facts(folder, tmp_path / "cache", killed)
    (file,) = (tmp_path / "cache").glob("*.jsonl")
    file.write_bytes(file.read_bytes() + b'["z.png",12')  # cut off
    read.clear()
    facts(folder, tmp_path / "cache")
    assert sorted(read) == ["y.png", "z.png"]
    read.clear()
    facts(folder, tmp_path / "cache")
    assert read == []


def test_lines_that_count_no_more_do_not_pile_up(folder, tmp_path):
    facts(folder, tmp_path / "cache")
    (file,) = (tmp_path / "cache").glob("*.jsonl")
    line = file.read_bytes().split(b"\n")[1]
    file.write_bytes(file.read_bytes() + (line + b"\n") * 2_000)
    facts(folder, tmp_path / "cache")
    assert len(file.read_bytes().splitlines()) == 4


def test_of_several_that_look_at_once_one_reads(folder, tmp_path, read):
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: facts(folder, tmp_path / "cache"), range(3)))
    assert found[0] == found[1] == found[2]
    assert len(read) == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_threads_look_at_files(folder, look, monkeypatch, workers):
    threads, together = set(), Barrier(workers, timeout=60)

    def looked(path):
        threads.add(get_ident())
        together.wait()
        return images.look(path)

    (folder / "w.png").unlink()
    monkeypatch.setattr(known, "look", looked)
    look(folder, options={"max_workers": workers})
    assert len(threads) == workers


def test_who_waits_for_another_can_be_stopped(folder, tmp_path):
    def stop():
        raise StopNow

    facts(folder, tmp_path / "cache")
    (lock,) = (tmp_path / "cache").glob("*.lock")
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StopNow):
            facts(folder, tmp_path / "cache", stop)


def test_a_look_uses_it(folder, tmp_path, look, read):
    (folder / "w.png").unlink()
    look(folder, cache=tmp_path / "cache")
    assert len(read) == 3
    look(folder, cache=tmp_path / "cache", seed=2)
    assert len(read) == 3
