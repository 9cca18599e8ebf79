"""Files of tensors: whole or not there, and a damaged one is noticed."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from trainyard.trainer.diffusion.cache.shelf import Damaged, Shelf, digest
from trainyard.trainer.failures import ConfigError, DiskFull

TENSORS = {"a": torch.arange(6.0).view(2, 3).bfloat16(), "b": torch.tensor(7), "c": torch.zeros(0, 4)}
NAME = digest("a thing")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "cache", "latents", "vae 1")


def test_what_was_kept_is_read_bit_for_bit_with_its_notes(shelf: Shelf) -> None:
    with shelf.making():
        shelf.write(NAME, TENSORS, {"cut": "3"})
    found = shelf.read(NAME)
    assert {k: (v.dtype, v.shape) for k, v in found.items()} == {k: (v.dtype, v.shape) for k, v in TENSORS.items()}
    assert all(torch.equal(found[key], TENSORS[key]) for key in TENSORS)
    assert (shelf.notes(NAME) or {})["cut"] == "3"
    assert [p.name for p in (shelf.folder / "aside").iterdir()] == []
    assert shelf.path(NAME).relative_to(shelf.folder).parts[:2] == (NAME[:2], NAME[2:4])


def test_another_key_or_kind_is_another_shelf_and_says_what_it_is(shelf: Shelf) -> None:
    with shelf.making():
        shelf.write(NAME, TENSORS)
    for other in (Shelf(shelf.root, "latents", "vae 2"), Shelf(shelf.root, "texts", "vae 1")):
        assert other.notes(NAME) is None
    assert '"key": "vae 1"' in (shelf.folder / "about.json").read_text()


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_file_that_was_cut_short_counts_as_not_there_and_is_not_read(shelf: Shelf, length: int) -> None:
    with shelf.making():
        shelf.write(NAME, TENSORS)
    whole = shelf.path(NAME).read_bytes()
    shelf.path(NAME).write_bytes(whole[:length])
    assert shelf.notes(NAME) is None
    with pytest.raises(Damaged, match=NAME):
        shelf.read(NAME)


def test_one_changed_byte_anywhere_behind_the_length_is_noticed(shelf: Shelf) -> None:
    with shelf.making():
        shelf.write(NAME, {"a": TENSORS["a"]})
    whole = bytearray(shelf.path(NAME).read_bytes())
    blanks = whole[8:].find(b"}   ")  # the header ends in blanks that mean nothing
    for place in (10, 20, whole.find(b"sum") + 7, len(whole) - 12, len(whole) - 1):
        assert not 0 < blanks < place - 8 < blanks + 4
        other = bytearray(whole)
        other[place] ^= 1
        shelf.path(NAME).write_bytes(other)
        with pytest.raises(Damaged):
            shelf.read(NAME)


def test_a_file_of_zeros_as_a_power_cut_leaves_it_counts_as_not_there(shelf: Shelf) -> None:
    with shelf.making():
        shelf.write(NAME, TENSORS)
    shelf.path(NAME).write_bytes(bytes(len(shelf.path(NAME).read_bytes())))
    assert shelf.notes(NAME) is None


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_the_disk_does_not_take_is_told_with_its_folder_and_leaves_nothing(shelf: Shelf) -> None:
    with shelf.making():
        shelf.write(NAME, TENSORS)
        with no_file_longer_than(1000), pytest.raises(DiskFull, match=r"no disk space: .*/cache: a file of"):
            shelf.write(digest("a large one"), {"a": torch.zeros(1000)})
    assert shelf.notes(digest("a large one")) is None
    assert [p.name for p in (shelf.folder / "aside").iterdir()] == []
    assert torch.equal(shelf.read(NAME)["a"], TENSORS["a"])


def test_a_folder_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="file/cache can't be written: Not a directory"),
        Shelf(tmp_path / "file" / "cache", "latents", "k").making(),
    ):
        pass


def test_what_is_wanted_again_counts_as_used_from_now_on(shelf: Shelf) -> None:
    with shelf.making():
        shelf.write(NAME, TENSORS)
    os.utime(shelf.path(NAME), (0, 0))
    shelf.notes(NAME)
    assert shelf.path(NAME).stat().st_mtime > 1e9
