"""Tokenised rows, end to end in flat arrays: in memory, or mapped from files where they are too many for it."""

from array import array
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, overload

import numpy as np
from attrs import frozen

_PARTS = {"ids": ("i", np.int32), "learned": ("b", np.bool_), "offsets": ("q", np.int64), "picks": ("q", np.int64)}


@frozen(eq=False)
class Example:
    """The tokens of a row and which of them are learned."""

    ids: np.ndarray
    learned: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def targets(self) -> int:
        """Tokens that count in the loss; the first token of a row is never predicted."""
        return int(self.learned[1:].sum())


@frozen(eq=False)
class Examples(Sequence[Example]):
    """Examples by index. What an epoch takes several times lies in the arrays once and is picked several times."""

    ids: np.ndarray
    learned: np.ndarray
    #: Where each row begins, and where the last one ends.
    offsets: np.ndarray
    #: The row of each example.
    picks: np.ndarray

    def __len__(self) -> int:
        return len(self.picks)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> "Examples": ...
    def __getitem__(self, at: int | slice) -> "Example | Examples":
        if isinstance(at, slice):
            return self.take(np.arange(len(self))[at])
        row = self.picks[at]
        part = slice(self.offsets[row], self.offsets[row + 1])
        return Example(self.ids[part], self.learned[part])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        return np.diff(self.offsets)[self.picks]

    @property
    def largest(self) -> int:
        """The largest token of all rows."""
        return int(self.ids.max())

    def take(self, indices: np.ndarray) -> "Examples":
        """Some of the examples, over the same arrays."""
        return Examples(self.ids, self.learned, self.offsets, self.picks[indices])


def rows_of(examples: Sequence[Any]) -> list[int]:
    """The number of each example's row; a row that is taken several times gives neighbours of one number."""
    if isinstance(examples, Examples):
        return list(examples.picks.tolist())
    new = (int(i > 0 and examples[i] is not examples[i - 1]) for i in range(len(examples)))
    return list(accumulate(new))


class Writer:
    """Takes the rows one by one; with a folder they go to files there, without one they stay in memory.

    The files have no name: they are gone when the process is, however it ends.
    """

    def __init__(self, folder: Path | None) -> None:
        self._parts = {name: array(code) for name, (code, _) in _PARTS.items()}
        self._parts["offsets"].append(0)
        self._rows = self._tokens = 0
        self._files: dict[str, IO[bytes]] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = {name: TemporaryFile(dir=folder) for name in _PARTS}  # noqa: SIM115 - closed by `close`

    def add(self, ids: Sequence[int], learned: Sequence[bool], times: int) -> None:
        """One row, to be picked so many times."""
        self._parts["ids"].extend(ids)
        self._parts["learned"].frombytes(bytes(learned))
        self._tokens += len(ids)
        self._parts["offsets"].append(self._tokens)
        self._parts["picks"].extend([self._rows] * times)
        self._rows += 1

    def flush(self) -> None:
        """What was taken so far goes to the files, where there are some."""
        for name, file in self._files.items():
            file.write(self._parts[name])
            file.flush()
            self._parts[name] = array(self._parts[name].typecode)

    def examples(self) -> Examples:
        """All rows that were taken, of which there must be one; the writer takes no more of them."""
        self.flush()
        if self._files:
            # Copy on write: torch warns of arrays that can't be written to. The maps outlive their files' handles.
            maps = {name: np.memmap(file, _PARTS[name][1], "c") for name, file in self._files.items()}
            return Examples(**{name: np.asarray(part) for name, part in maps.items()})
        return Examples(**{name: np.frombuffer(self._parts[name], kind) for name, (_, kind) in _PARTS.items()})

    def close(self) -> None:
        """Give the files back; examples that were taken stay."""
        for file in self._files.values():
            file.close()
