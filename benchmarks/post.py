"""Durable `POST /train` a second, against handlers that keep nothing, or keep it in memory."""

import argparse
import statistics
from collections.abc import Callable

from attrs import frozen

from benchmarks.document import DEVICES
from benchmarks.load import Answered, Order
from benchmarks.processes import cpu_seconds, load, serving
from benchmarks.table import interleaved, met, ratio, show

_SHORT, _GUIDE = "short", "guide's"
BARE, PYDANTIC, SERVICE = "bare aiohttp: parse, answer", "FastAPI + pydantic + dict", "the service"
HOOKED = f"{SERVICE}, with its callbacks"
_GOAL_BARE, _GOAL_PYDANTIC = 0.3, 1.0


@frozen
class Round:
    """What the load generator saw, and the server's processor time a request."""

    answered: Answered
    cpu_us: float


def measure(module: str, seconds: float, *, short: bool = False, hooks: bool = False) -> Callable[[], Round]:
    """One round against a server that is started for it, with an empty database."""

    def once() -> Round:
        with serving(module) as server:
            before = cpu_seconds(server.pid)
            answered = load(Order(port=server.port, short=short, hooks=hooks, seconds=seconds))
            return Round(answered, (cpu_seconds(server.pid) - before) / answered.sent * 1e6)

    return once


def main(rounds: int = 5, seconds: float = 2.0) -> None:
    """Measure and print."""
    modules = {BARE: "serve_bare", PYDANTIC: "serve_pydantic", SERVICE: "serve_service"}
    measures = {
        (document, name): measure(module, seconds, short=document == _SHORT)
        for document in (_SHORT, _GUIDE)
        for name, module in modules.items()
    } | {(_GUIDE, HOOKED): measure("serve_service", seconds, hooks=True)}
    found = interleaved(rounds, {f"{name} ({document})": once for (document, name), once in measures.items()})
    rounds_of = dict(zip(measures, found.values(), strict=True))
    speeds = {key: [r.answered.per_second for r in seen] for key, seen in rounds_of.items()}
    ratios = {
        key: (ratio(speeds[key], speeds[key[0], BARE]), ratio(speeds[key], speeds[key[0], PYDANTIC])) for key in speeds
    }
    rows = [
        (
            f"{name}; {document} document",
            f"{statistics.median(speeds[document, name]):,.0f}",
            *(f"{value:.2f}" for value in ratios[document, name]),
            f"{statistics.median(r.answered.p50_ms for r in seen):.1f}",
            f"{statistics.median(r.answered.p99_ms for r in seen):.1f}",
            f"{statistics.median(r.cpu_us for r in seen):,.0f}",
        )
        for (document, name), seen in rounds_of.items()
    ]
    notes = [
        f"{name}; {document} document: against bare {bare:.2f} (goal ≥ {_GOAL_BARE}: {met(bare, _GOAL_BARE)}),"
        f" against FastAPI {pydantic:.2f} (goal ≥ {_GOAL_PYDANTIC}: {met(pydantic, _GOAL_PYDANTIC)})"
        for (document, name), (bare, pydantic) in ratios.items()
        if name in (SERVICE, HOOKED)
    ]
    head = ("POST /train", "requests/s", "× bare", "× FastAPI", "p50 ms", "p99 ms", "server CPU µs/request")
    about = f"64 connections; a 201 of the service is on disk (fsync); every job waits for {DEVICES} taken devices"
    peers = "the servers beside it get the guide's document without callbacks, which is 0.15 KB shorter"
    show(f"{rounds} rounds of {seconds:g} s, medians", head, rows, [about, peers, *notes])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    main(**vars(parser.parse_args()))
