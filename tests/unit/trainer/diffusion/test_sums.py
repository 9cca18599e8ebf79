"""The sums of files of weights: read once, kept while size and time are the same, and a stop is heard meanwhile."""

import fcntl
import hashlib
import os
import threading

import pytest

from trainyard.trainer.diffusion import sums
from trainyard.trainer.diffusion.sums import Sums


@pytest.fixture
def file(tmp_path):
    """Old enough that nobody can have written to it in the same tick of the clock."""
    path = tmp_path / "t5.safetensors"
    path.write_bytes(b"weights")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


@pytest.fixture
def read(monkeypatch):
    """The files that were read."""
    found = []
    own = Sums._read
    monkeypatch.setattr(Sums, "_read", lambda self, path: (found.append(path.name), own(self, path))[1])
    return found


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_and_by_no_later_job(tmp_path, file, read):
    first = Sums(tmp_path / "cache")
    assert [first.of(file) for _ in range(2)] == [sha256(b"weights")] * 2
    assert Sums(tmp_path / "cache").of(file) == sha256(b"weights")
    assert read == ["t5.safetensors"]
    (tmp_path / "link").symlink_to(file)
    assert Sums(tmp_path / "cache").of(tmp_path / "link") == sha256(b"weights")
    assert read == ["t5.safetensors"]


def test_another_size_or_time_is_read_anew_and_a_line_that_was_cut_counts_for_nothing(tmp_path, file, read):
    known = Sums(tmp_path / "cache")
    known.of(file)
    file.write_bytes(b"WEIGHTS")
    os.utime(file, (1_700_000_001, 1_700_000_001))
    kept = tmp_path / "cache" / "weights.jsonl"
    kept.write_bytes(kept.read_bytes() + b'["' + os.fsencode(file))
    assert known.of(file) == Sums(tmp_path / "cache").of(file) == sha256(b"WEIGHTS")
    assert Sums(tmp_path / "cache").of(file) == sha256(b"WEIGHTS")
    assert len(read) == 2


def test_of_a_file_that_was_just_written_nothing_is_kept(tmp_path, file, read):
    file.write_bytes(b"young")
    for _ in range(2):
        assert Sums(tmp_path / "cache").of(file) == sha256(b"young")
    assert len(read) == 2


def test_a_stop_is_heard_between_two_blocks_and_while_another_process_reads(tmp_path, file, monkeypatch):
    class Heard(Exception):
        pass

    def stop():
        raise Heard

    monkeypatch.setattr(sums, "_BLOCK", 1)
    with pytest.raises(Heard):
        Sums(tmp_path / "cache", stop).of(file)
    assert Sums(tmp_path / "cache").of(file) == sha256(b"weights")

    other = tmp_path / "other"
    other.write_bytes(b"other")
    with (tmp_path / "cache" / "weights.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Heard):
            Sums(tmp_path / "cache", stop).of(other)


def test_of_two_that_ask_at_once_one_reads(tmp_path, file, read):
    found = []
    asked = [threading.Thread(target=lambda: found.append(Sums(tmp_path / "cache").of(file))) for _ in range(2)]
    for each in asked:
        each.start()
    for each in asked:
        each.join(60)
    assert found == [sha256(b"weights")] * 2 and len(read) == 1


def test_the_hub_has_the_sum_in_a_files_name(tmp_path, read):
    blob = tmp_path / "blobs" / ("ab" * 32)
    blob.parent.mkdir()
    blob.write_bytes(b"x")
    (tmp_path / "model.safetensors").symlink_to(blob)
    assert Sums(tmp_path / "cache").of(tmp_path / "model.safetensors") == "ab" * 32
    assert read == []
