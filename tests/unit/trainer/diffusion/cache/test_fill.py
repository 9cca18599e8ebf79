"""Making what a cache lacks: once, in batches, and what was made before an end stays."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from trainyard.trainer.diffusion.cache import fill as filling
from trainyard.trainer.diffusion.cache.fill import Made, Wanted, Work, fill
from trainyard.trainer.diffusion.cache.shelf import Shelf, digest
from trainyard.trainer.failures import DataError, Stopped


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path, "numbers", "squares")


class Squares:
    """Numbers become their squares."""

    def __init__(self, most: int = 99) -> None:
        self.batches: list[list[int]] = []
        self.said: list[str] = []
        self.most = most

    def encode(self, numbers: Sequence[int]) -> list[Made]:
        if len(numbers) > self.most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.batches.append(list(numbers))
        return [Made({"square": torch.tensor(n * n)}) for n in numbers]

    def work(self, load: Callable[[int], int] = int, check: Callable[[], None] = lambda: None) -> Work[int]:
        return Work(what="numbers", load=load, encode=self.encode, check=check, say=self.say, threads=2)

    def say(self, message: str, **more: Any) -> None:
        self.said.append(message)


def batches(shelf: Shelf, count: int, size: int) -> list[list[Wanted[int]]]:
    wanted = [Wanted(shelf, digest(str(n)), n) for n in range(count)]
    return [wanted[start : start + size] for start in range(0, count, size)]


def kept(shelf: Shelf, count: int) -> list[int]:
    return [n for n in range(count) if shelf.notes(digest(str(n))) is not None]


def test_everything_is_made_in_batches_and_a_second_time_nothing(shelf: Shelf) -> None:
    squares = Squares()
    assert fill(batches(shelf, 10, 4), squares.work()) == 10
    assert squares.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [int(shelf.read(digest(str(n)))["square"]) for n in range(10)] == [n * n for n in range(10)]
    assert fill(batches(shelf, 12, 4), squares.work()) == 2
    assert squares.batches[3:] == [[10, 11]]


def test_a_stop_between_batches_leaves_whole_files_and_the_next_job_makes_the_rest_alone(shelf: Shelf) -> None:
    looks = iter(range(1000))

    def stop() -> None:
        if next(looks) == 6:
            raise Stopped(saved=False, why="SIGTERM")

    with pytest.raises(Stopped):
        fill(batches(shelf, 40, 4), Squares().work(check=stop))
    there = kept(shelf, 40)
    assert 4 <= len(there) <= 24
    again = Squares()
    assert fill(batches(shelf, 40, 4), again.work()) == 40 - len(there)
    assert sorted(n for batch in again.batches for n in batch) == [n for n in range(40) if n not in there]


def test_what_can_not_be_read_ends_it_and_what_was_made_before_stays(shelf: Shelf) -> None:
    def load(number: int) -> int:
        if number == 30:
            raise DataError("30.png: can't be read any more")
        return number

    with pytest.raises(DataError, match=r"30\.png"):
        fill(batches(shelf, 40, 4), Squares().work(load))
    assert 30 not in kept(shelf, 40) and set(range(16)) <= set(kept(shelf, 40))
    assert not list((shelf.folder / "aside").iterdir())


def test_a_batch_that_memory_does_not_take_is_cut_in_two(shelf: Shelf) -> None:
    squares = Squares(most=2)
    assert fill(batches(shelf, 7, 7), squares.work()) == 7
    assert squares.batches == [[0], [1, 2], [3, 4], [5, 6]] and kept(shelf, 7) == list(range(7))
    with pytest.raises(RuntimeError, match="out of memory"):
        fill(batches(shelf, 8, 1), Squares(most=0).work())


def test_progress_is_told(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_TELL_SECONDS", 0.0)
    squares = Squares()
    fill(batches(shelf, 100, 10), squares.work())
    assert squares.said[0].startswith("caching: ") and " of 100 numbers, " in squares.said[0]


def test_what_a_killed_process_left_aside_is_removed_and_what_is_under_way_is_not(shelf: Shelf) -> None:
    fill(batches(shelf, 1, 1), Squares().work())
    (shelf.folder / "aside" / f"{digest('0')}.1.1").write_bytes(b"half")
    fill(batches(shelf, 2, 1), Squares().work())
    assert not list((shelf.folder / "aside").iterdir())
