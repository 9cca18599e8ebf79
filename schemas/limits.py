"""Limits of a value, written in its type: `Annotated[int, Range(ge=1)]`. Each completes one phrase."""

import re
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import attrs


@attrs.frozen
class Doc:
    """What a field means, in one line; becomes its description in the JSON Schema."""

    text: str


@runtime_checkable
class Limit(Protocol):
    """One limit; `noun` (where not empty) replaces the type's own word in "must be …", `words` follow it."""

    @property
    def noun(self) -> str: ...

    @property
    def words(self) -> str: ...

    @property
    def holds(self) -> Callable[[Any], bool]:
        """Does the value, already of the right type, keep to it?"""
        ...

    def schema(self) -> dict[str, Any]:
        """The same in JSON Schema's words."""
        ...


@attrs.frozen
class Range:
    """A number's bounds."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    noun: str = ""
    holds: Callable[[Any], bool] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "holds", _within(self.ge, self.gt, self.le, self.lt))

    @property
    def words(self) -> str:
        if self.ge is not None and self.le is not None:
            return f"from {_number(self.ge)} to {_number(self.le)}"
        bounds = {"≥": self.ge, ">": self.gt, "≤": self.le, "<": self.lt}
        return " and ".join(f"{sign} {_number(bound)}" for sign, bound in bounds.items() if bound is not None)

    def schema(self) -> dict[str, Any]:
        bounds = {"minimum": self.ge, "exclusiveMinimum": self.gt, "maximum": self.le, "exclusiveMaximum": self.lt}
        return {word: bound for word, bound in bounds.items() if bound is not None}


@attrs.frozen
class Length:
    """Bounds of a string's, a list's or an object's length."""

    min: int = 0
    max: int | None = None
    noun: str = ""

    @property
    def words(self) -> str:
        if self.max is None:
            return "that is not empty" if self.min == 1 else f"of at least {self.min}"
        return f"of at most {self.max}" if not self.min else f"of {self.min} to {self.max}"

    def holds(self, value: Any) -> bool:
        return self.min <= len(value) and (self.max is None or len(value) <= self.max)

    def schema(self) -> dict[str, Any]:
        return {"min": self.min, "max": self.max}


@attrs.frozen
class Matches:
    """A string that a regular expression matches as a whole; `noun` says it in words."""

    pattern: str
    noun: str
    words: str = ""
    _match: Callable[[str], object] = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_match", re.compile(self.pattern, re.ASCII).fullmatch)

    def holds(self, value: str) -> bool:
        return self._match(value) is not None

    def schema(self) -> dict[str, Any]:
        return {"pattern": f"^(?:{self.pattern})$"}


@attrs.frozen
class Holds:
    """A string for which a function is true; `noun` or `words` say which strings those are."""

    holds: Callable[[str], bool]
    noun: str = ""
    words: str = ""
    format: str | None = None

    def schema(self) -> dict[str, Any]:
        return {"format": self.format} if self.format else {}


def _number(bound: float) -> str:
    return f"{bound:g}".replace("-", "−") if abs(bound) < 1e6 else f"{bound:.0f}"


def _within(ge: float | None, gt: float | None, le: float | None, lt: float | None) -> Callable[[Any], bool]:
    """The cheapest test of these bounds: reading a document makes dozens of them."""
    if gt is None and le is None and lt is None and ge is not None:
        least = ge
        return lambda value: bool(value >= least)
    if ge is None and le is None and lt is None and gt is not None:
        below = gt
        return lambda value: bool(value > below)
    return lambda value: (
        (ge is None or value >= ge)
        and (gt is None or value > gt)
        and (le is None or value <= le)
        and (lt is None or value < lt)
    )
