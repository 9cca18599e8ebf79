"""Durable `POST /train` a second, against handlers that keep nothing, or keep it in memory."""

import argparse
import statistics
from collections.abc import Callable

from attrs import frozen

from benchmarks.document import DEVICES
from benchmarks.load import Answered, Order
from benchmarks.processes import cpu_seconds, load, serving
from benchmarks.table import interleaved, met, ratio, show

BARE, PYDANTIC, SERVICE, HOOKED = (
    "bare aiohttp: parse, answer",
    "FastAPI + pydantic + dict",
    "the service, no callbacks",
    "the service, guide's document",
)
_GOAL_BARE, _GOAL_PYDANTIC = 0.3, 1.0


@frozen
class Round:
    """What the load generator saw, and the server's processor time a request."""

    answered: Answered
    cpu_us: float


def measure(module: str, seconds: float, *, hooks: bool) -> Callable[[], Round]:
    """One round against a server that is started for it, with an empty database."""

    def once() -> Round:
        with serving(module) as server:
            before = cpu_seconds(server.pid)
            answered = load(Order(port=server.port, hooks=hooks, seconds=seconds))
            return Round(answered, (cpu_seconds(server.pid) - before) / answered.sent * 1e6)

    return once


def main(rounds: int = 5, seconds: float = 2.0) -> None:
    """Measure and print."""
    found = interleaved(
        rounds,
        {
            BARE: measure("serve_bare", seconds, hooks=True),
            PYDANTIC: measure("serve_pydantic", seconds, hooks=True),
            SERVICE: measure("serve_service", seconds, hooks=False),
            HOOKED: measure("serve_service", seconds, hooks=True),
        },
    )
    speeds = {name: [r.answered.per_second for r in seen] for name, seen in found.items()}
    rows = [
        (
            name,
            f"{statistics.median(speeds[name]):,.0f}",
            f"{ratio(speeds[name], speeds[BARE]):.2f}",
            f"{ratio(speeds[name], speeds[PYDANTIC]):.2f}",
            f"{statistics.median(r.answered.p50_ms for r in seen):.1f}",
            f"{statistics.median(r.answered.p99_ms for r in seen):.1f}",
            f"{statistics.median(r.cpu_us for r in seen):,.0f}",
        )
        for name, seen in found.items()
    ]
    notes = [
        f"{name}: against bare {value:.2f} (goal ≥ {_GOAL_BARE}: {met(value, _GOAL_BARE)}),"
        f" against FastAPI {other:.2f} (goal ≥ {_GOAL_PYDANTIC}: {met(other, _GOAL_PYDANTIC)})"
        for name in (SERVICE, HOOKED)
        for value, other in [(ratio(speeds[name], speeds[BARE]), ratio(speeds[name], speeds[PYDANTIC]))]
    ]
    head = ("POST /train", "requests/s", "× bare", "× FastAPI", "p50 ms", "p99 ms", "server CPU µs/request")
    about = f"64 connections; a 201 of the service is on disk (fsync); every job waits for {DEVICES} taken devices"
    show(f"{rounds} rounds of {seconds:g} s, medians", head, rows, [about, *notes])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    main(**vars(parser.parse_args()))
