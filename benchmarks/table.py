"""Rounds and tables."""

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleaved(rounds: int, measures: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """Each measure once a round, A B C A B C …, so that a slow minute of the machine meets all of them."""
    found: dict[str, list[T]] = {name: [] for name in measures}
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            sys.stderr.write(f"\r\033[Kround {number} of {rounds}: {name}")
            sys.stderr.flush()
            found[name].append(measure())
    sys.stderr.write("\r\033[K")
    return found


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the rounds' own ratios."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def show(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()) -> None:
    """A plain text table on standard output."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    print(f"\n{title}\n")
    for row in (head, ["-" * width for width in widths], *rows):
        print("  " + "  ".join(_cell(row[n], widths[n], n) for n in range(len(head))).rstrip())
    for note in notes:
        print(f"  {note}")


def _cell(text: str, width: int, place: int) -> str:
    return text.ljust(width) if place == 0 else text.rjust(width)


def met(value: float, goal: float, *, least: bool = True) -> str:
    """Whether a goal was reached, in words."""
    return "met" if (value >= goal if least else value <= goal) else "missed"
