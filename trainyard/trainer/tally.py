"""What was counted one by one, where a person wants the first ones by name and of the others how many."""

from collections.abc import Iterator
from typing import overload

from attrs import define, field

_NAMED = 10


@define
class Tally:
    """How many there were, and the first of them by name."""

    count: int = 0
    first: list[str] = field(factory=list)

    def add(self, name: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append(name)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        return iter(self.first)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self.first[at]

    def words(self) -> str:
        """The first ones, and how many more."""
        more = self.count - len(self.first)
        return "; ".join(self.first) + (f"; and {more:,} more" if more else "")
