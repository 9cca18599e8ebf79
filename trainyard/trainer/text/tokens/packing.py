"""Which rows share a sequence: best-fit decreasing."""

from collections.abc import Sequence

import numpy as np

_WORD = 512


def pack(lengths: Sequence[int] | np.ndarray, longest: int) -> list[list[int]]:
    """Bins of row indices; each row lies in one, none holds more than `longest` tokens.

    The longest rows are laid first, each into the fullest bin that has room for it; rows of one length keep their
    order. The same lengths give the same bins. Raises `ValueError` for a length below 1 or above `longest`.
    """
    sizes = np.asarray(lengths, np.int64)
    if len(sizes) and not 1 <= sizes.min() <= sizes.max() <= longest:
        raise ValueError(f"lengths must be from 1 to {longest}, got {sizes.min()} to {sizes.max()}")
    order = np.argsort(-sizes, kind="stable").tolist()
    present, counts = np.unique(sizes, return_counts=True)
    bins: list[list[int]] = []
    rooms = _Rooms(longest)
    at = 0
    for size, count in zip(present[::-1].tolist(), counts[::-1].tolist(), strict=True):
        end = at + count
        while at < end:
            room, found = rooms.take(size)
            if found is None:
                room, found = longest, []
                bins.append(found)
            # A bin that took a row is the fullest with room for the next of its length.
            fit = min(room // size, end - at)
            found += order[at : at + fit]
            at += fit
            rooms.give(room - fit * size, found)
    return bins


class _Rooms:
    """Bins by the room they have left; the smallest room that is enough is found by its bit."""

    def __init__(self, longest: int) -> None:
        self._bins: list[list[list[int]]] = [[] for _ in range(longest + 1)]
        self._words = [0] * (longest // _WORD + 1)
        self._filled = 0

    def give(self, room: int, bin_: list[int]) -> None:
        """A bin has so much room."""
        if not room:
            return
        self._bins[room].append(bin_)
        word, bit = divmod(room, _WORD)
        self._words[word] |= 1 << bit
        self._filled |= 1 << word

    def take(self, size: int) -> tuple[int, list[int] | None]:
        """The bin with the least room that is at least `size`, which is not among them any more."""
        room = self._least(size)
        if room is None:
            return 0, None
        found = self._bins[room].pop()
        if not self._bins[room]:
            word, bit = divmod(room, _WORD)
            self._words[word] &= ~(1 << bit)
            if not self._words[word]:
                self._filled &= ~(1 << word)
        return room, found

    def _least(self, size: int) -> int | None:
        word, bit = divmod(size, _WORD)
        above = self._words[word] >> bit
        if above:
            return size + _lowest(above)
        words = self._filled >> (word + 1)
        if not words:
            return None
        word += 1 + _lowest(words)
        return word * _WORD + _lowest(self._words[word])


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
