"""Events a second to 200 readers of `GET /events`, against a loop that writes the same bytes and stores nothing."""

import argparse
import json
import statistics
from collections.abc import Callable

from attrs import frozen

from benchmarks.listen import Heard
from benchmarks.processes import answer_of, client, cpu_seconds, serving
from benchmarks.table import interleaved, met, ratio, show

_GOAL = 0.7


@frozen
class Round:
    """What the readers heard, and the server's processor time a delivered event."""

    per_second: float
    cpu_us: float
    events_a_read: float


def measure(module: str, readers: int, events: int, **how: int) -> Callable[[], Round]:
    """One round against a server that is started for it."""
    order = {"readers": readers, "events": events, **how}

    def once() -> Round:
        with serving(module, {"BENCH_ORDER": json.dumps(order)}) as server:
            before = cpu_seconds(server.pid)
            heard = Heard(**answer_of(client("listen", {"port": server.port, "readers": readers})))
            spent = cpu_seconds(server.pid) - before
            delivered = events * readers
            return Round(delivered / heard.seconds, spent / delivered * 1e6, delivered / heard.reads)

    return once


def main(rounds: int = 5, readers: int = 200, events: int = 3200, jobs: int = 16) -> None:
    """Measure and print."""
    single, joined, ours = (
        "bare loop, a write an event",
        f"bare loop, {jobs} events a write",
        f"the service, {jobs} jobs",
    )
    found = interleaved(
        rounds,
        {
            single: measure("serve_bare_sse", readers, events, burst=1),
            joined: measure("serve_bare_sse", readers, events * 4, burst=jobs),
            ours: measure("serve_sse", readers, events, jobs=jobs),
        },
    )
    speeds = {name: [r.per_second for r in seen] for name, seen in found.items()}
    rows = [
        (
            name,
            f"{statistics.median(speeds[name]):,.0f}",
            f"{ratio(speeds[name], speeds[single]):.2f}",
            f"{ratio(speeds[name], speeds[joined]):.2f}",
            f"{statistics.median(r.cpu_us for r in seen):.1f}",
            f"{statistics.median(r.events_a_read for r in seen):.1f}",
        )
        for name, seen in found.items()
    ]
    value = ratio(speeds[ours], speeds[single])
    head = (f"{readers} SSE readers", "events/s", "× single", "× joined", "server CPU µs/event", "events/read")
    notes = [f"against a bare loop that writes each event: {value:.2f} (goal ≥ {_GOAL}: {met(value, _GOAL)})"]
    show(f"{events} events to each reader; {rounds} rounds, medians", head, rows, notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--events", type=int, default=3200)
    parser.add_argument("--jobs", type=int, default=16)
    main(**vars(parser.parse_args()))
