"""Tokens a second of our trainer, against plain scripts of the same work on the CPU: `python -m benchmarks.training`.

The same model, the same rows, the same number of steps; each run a process of its own. Real tokens are counted on both
sides, never padding, after the first steps: the start is another matter (`benchmarks.training_start`).
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial

from attrs import evolve, frozen

from benchmarks.table import interleaved, met, ratio, show
from benchmarks.training_work import THREADS, Seen, Size, Work, by_peer, by_us, working

METHODS = ("full", "lora")
SCRIPTS = ("trl_sft", "accelerate_loop")
LOOP = "hand-written accelerate loop, blocks"


@frozen
class Against:
    """A comparison: ours packed or not, a script, how it packs, and what the ratio should be."""

    method: str
    packing: bool
    script: str
    peer_packing: str
    goal: float | None

    @property
    def ours(self) -> str:
        return f"ours, {self.method}, packing {'on' if self.packing else 'off'}"

    @property
    def peer(self) -> str:
        name = LOOP if self.script == "accelerate_loop" else f"TRL, {self.peer_packing}"
        return f"{name}; {self.method}"


COMPARISONS = (
    Against("full", True, "trl_sft", "bfd", 1.4),
    Against("lora", True, "trl_sft", "bfd", 1.4),
    Against("lora", True, "trl_sft", "wrapped", 1.2),
    Against("full", False, "trl_sft", "off", None),
    Against("lora", False, "trl_sft", "off", None),
    Against("full", True, "accelerate_loop", "blocks", 0.97),
    Against("lora", True, "accelerate_loop", "blocks", 0.97),
)


def _measures(work: Work, method: str, comparisons: Sequence[Against]) -> dict[str, Callable[[], Seen]]:
    """Each side once a round, however many comparisons it is in."""
    found: dict[str, Callable[[], Seen]] = {}
    for against in (a for a in comparisons if a.method == method):
        found[against.ours] = partial(by_us, work, method, packing=against.packing)
        found[against.peer] = partial(by_peer, work, against.script, method, against.peer_packing)
    return found


def main(
    rounds: int = 5, size: Size = Size(), methods: Sequence[str] = METHODS, scripts: Sequence[str] = SCRIPTS
) -> None:
    """Measure and print."""
    comparisons = [a for a in COMPARISONS if a.method in methods and a.script in scripts]
    speeds: dict[str, list[float]] = {}
    with working(size) as work:
        for method in methods:
            found = interleaved(rounds, _measures(work, method, comparisons))
            speeds |= {name: [seen.tokens_per_second for seen in runs] for name, runs in found.items()}
    rows = [
        (name, f"{statistics.median(seen):,.0f}", f"{min(seen):,.0f}-{max(seen):,.0f}") for name, seen in speeds.items()
    ]
    notes = []
    for against in comparisons:
        value = ratio(speeds[against.ours], speeds[against.peer])
        goal = f"goal ≥ {against.goal}: {met(value, against.goal)}" if against.goal else "no goal"
        notes.append(f"{against.ours} / {against.peer}: {value:.2f} ({goal})")
    about = (
        f"{size.batch} × {size.length} tokens a step, {size.steps} steps, {size.warm} of them before the clock; "
        f"fp32, {THREADS} threads"
    )
    show(f"{rounds} rounds, medians", ("trainer", "tokens/s", "range"), rows, [about, *notes])


def asked(parser: argparse.ArgumentParser) -> tuple[int, Size, Sequence[str]]:
    """Rounds, size and methods from the command line."""
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=Size().steps)
    parser.add_argument("--hidden", type=int, default=Size().hidden)
    parser.add_argument("--layers", type=int, default=Size().layers)
    parser.add_argument("--method", choices=METHODS, help="only this one")
    given = parser.parse_args()
    warm = min(Size().warm, given.steps // 2)
    size = evolve(Size(), steps=given.steps, hidden=given.hidden, layers=given.layers, warm=warm)
    return given.rounds, size, (given.method,) if given.method else METHODS


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--against", choices=SCRIPTS, help="only this script")
    found = asked(arguments)
    against = arguments.parse_args().against
    main(*found, scripts=(against,) if against else SCRIPTS)
