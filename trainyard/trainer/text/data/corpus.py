"""A first look at the data, before anything is loaded: every row, its shape, and whether it has a target."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, overload

import orjson
from attrs import define, field, frozen

from trainyard.trainer.failures import DataError
from trainyard.trainer.tally import Tally
from trainyard.trainer.text.data import shares
from trainyard.trainer.text.data.material import Corpus, Kind, Material, Row, RowError, Source, place
from trainyard.trainer.text.data.parts import Part, parts_of
from trainyard.trainer.text.data.shapes import Shape, has_target, shape

_CHECK_EVERY = 2_000
_SKIP = 'extra_parameters.on_bad_row: "skip" would leave out what is bad'


def look(
    materials: Sequence[Material],
    *,
    on_bad_row: str = "fail",
    objective: str = "sft",
    seed: int = 42,
    check: Callable[[], None] = lambda: None,
) -> Corpus:
    """Read every row of every dataset; `check` is called all the while and may raise.

    With `on_bad_row` `skip` bad rows are left out and counted. Raises `DataError` with file and line of what can't be
    trained on, `ConfigError` for what the document asks wrongly, `SourceRefused` for what may not be read.
    """
    seen = _Seen(objective, check)
    read = [_read(material, f"{seed} {i}", seen) for i, material in enumerate(materials)]
    if seen.bad and (on_bad_row != "skip" or not seen.good):
        alone = "" if seen.good or len(seen.bad) == 1 else "no row can be trained on: "
        skip = f"; {_SKIP}" if seen.good and on_bad_row != "skip" else ""
        raise DataError(alone + seen.bad.words() + skip)
    if not seen.good:
        named = seen.without.first[0] if seen.without else "datasets"
        raise DataError(f"{named}: no row has a target to learn (an answer, a completion or a text that is not empty)")
    streaming = any(isinstance(rows, Streamed) for rows in read)
    rows: Sequence[Row] = Several(tuple(read)) if streaming else tuple(chain.from_iterable(read))
    return Corpus(
        rows=rows,
        sources=tuple(seen.sources),
        kinds=frozenset(seen.kinds),
        without_target=seen.without,
        skipped=seen.bad,
        streaming=streaming,
    )


@define
class _Seen:
    """What the look has come by."""

    objective: str
    check: Callable[[], None]
    bad: Tally = field(factory=Tally)
    without: Tally = field(factory=Tally)
    kinds: set[Kind] = field(factory=set)
    sources: list[Source] = field(factory=list)
    good: int = 0

    def sift(self, part: Part, found: Callable[[Any], None]) -> Iterator[tuple[int, Shape]]:
        """The rows of a part that can be trained on; the others are noted. `found` gets each as it was read."""
        for number, row in part.read():
            if number % _CHECK_EVERY == 0:
                self.check()
            found(row)
            try:
                good = _shape(row, self.objective)
            except RowError as e:
                self.bad.add(f"{place(part.name, number, part.unit)}: {e}")
                continue
            if good is None:
                self.without.add(place(part.name, number, part.unit))
            else:
                self.kinds.add(good[0])
                yield number, good


def _shape(row: Any, objective: str) -> Shape | None:
    """The row's shape, None where it has no target. Raises `RowError`."""
    if isinstance(row, RowError):
        raise row
    kind, value = shape(row, objective)
    return (kind, value) if has_target(kind, value) else None


def _read(material: Material, seed: str, seen: _Seen) -> "Sequence[Row]":
    """The rows of one dataset: held, or to be read again."""
    parts = parts_of(material)
    held: list[Row] = []
    good = read = 0
    for part in parts:
        before = len(seen.without) + good
        digest = _Digest(part)
        for number, (kind, value) in seen.sift(part, digest.add):
            good += 1
            if not material.streaming:
                held.append(Row(part.name, number, kind, value, 1, part.unit))
        read += digest.rows
        size, sum_ = digest.result(seen.check)
        rows = len(seen.without) + good - before
        seen.sources.append(Source(part.path, rows, size, sum_, part.name, material.weight))
        seen.check()
    if not read:
        empty = not sum(source.bytes for source in seen.sources[-len(parts) :])
        raise DataError(f"{material.source}: {'is empty' if empty else 'has no row'}")
    seen.good += good
    if material.streaming:
        return Streamed(tuple(parts), seen.objective, good, material.weight, seed)
    if material.weight == 1:
        return held
    taken = zip(held, shares.times(good, material.weight, seed), strict=True)
    return [Row(r.file, r.number, r.kind, r.value, times, r.unit) for r, times in taken if times]


@define
class _Digest:
    """Bytes and sha256 of a part: of its files, else of its rows as JSON."""

    part: Part
    rows: int = 0
    size: int = 0
    sum: Any = field(factory=hashlib.sha256)

    def add(self, row: Any) -> None:
        """A row was read."""
        self.rows += 1
        if not self.part.files:
            text = orjson.dumps(None if isinstance(row, RowError) else row, default=repr, option=orjson.OPT_SORT_KEYS)
            self.size += len(text)
            self.sum.update(text)

    def result(self, check: Callable[[], None]) -> tuple[int, str]:
        """Bytes and digest."""
        return self.part.digest(check) if self.part.files else (self.size, self.sum.hexdigest())


class _InOrder(Sequence[Row]):
    """Rows that can only be gone through: to take one by its index is to read all before it."""

    __slots__ = ()

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> list[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | list[Row]:
        if isinstance(at, slice):
            wanted = range(len(self))[at]
            if not wanted:
                return []
            found = {i: row for i, row in enumerate(islice(self, max(wanted) + 1)) if i in wanted}
            return [found[i] for i in wanted]
        return next(islice(self, range(len(self))[at], None))


@frozen
class Streamed(_InOrder):
    """The rows of a dataset that is read again each time; never more than a batch of them is in memory."""

    parts: tuple[Part, ...]
    objective: str
    good: int
    weight: float
    seed: str

    def __len__(self) -> int:
        return shares.taken(self.good, self.weight)

    def __iter__(self) -> Iterator[Row]:
        """Raises `DataError` when there are more or fewer rows than at the first look."""
        times = shares.times(self.good, self.weight, self.seed)
        for part, number, (kind, value) in self._good():
            often = next(times, None)
            if often is None:
                raise DataError(f"{place(part.name, number, part.unit)}: was not there at the first look")
            if often:
                yield Row(part.name, number, kind, value, often, part.unit)
        if next(times, None) is not None:
            raise DataError(f"{self.parts[-1].name}: has fewer rows than at the first look")

    def _good(self) -> Iterator[tuple[Part, int, Shape]]:
        for part in self.parts:
            for number, row in part.read():
                try:
                    good = _shape(row, self.objective)
                except RowError:
                    good = None  # it was counted at the first look
                if good is not None:
                    yield part, number, good


@frozen
class Several(_InOrder):
    """The rows of several datasets, one after the other."""

    datasets: tuple[Sequence[Row], ...]

    def __len__(self) -> int:
        return sum(map(len, self.datasets))

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self.datasets)


def in_parts(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """All rows in their order, `size` of them at once; the way to go through streamed ones."""
    present = iter(rows)
    while part := list(islice(present, size)):
        yield part
