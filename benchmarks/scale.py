"""A service with a past: its memory when idle, the time of a list, and how long it is away when it is started again.

The databases are kept in `--folder` and used again, since the large one takes a minute or two to fill.
"""

import argparse
import http.client
import statistics
import time
from pathlib import Path

from benchmarks.fill import fill
from benchmarks.processes import Server, serving
from benchmarks.table import met, show

_MEMORY_MB, _LIST_RATIO, _START_SECONDS = 120.0, 1.5, 2.0
_IDLE_SECONDS = 5.0


def prepared(folder: Path, name: str, *, finished: int, queued: int = 0, events: int = 4) -> Path:
    """A data directory with so many jobs, filled unless it is there already."""
    data_dir = folder / name
    done = data_dir / "filled"
    if not done.exists():
        fill(data_dir, finished=finished, queued=queued, events=events)
        done.touch()
    return data_dir


def memory_mb(pid: int) -> dict[str, float]:
    """RSS and PSS of a process in megabytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines[1:])
    return {name: int(found[name].split()[0]) * 1024 / 1e6 for name in ("Rss", "Pss")}


def list_times(servers: dict[str, Server], rounds: int = 200) -> dict[str, list[float]]:
    """Milliseconds of `GET /train?limit=50`, the servers in turn."""
    links = {name: http.client.HTTPConnection("127.0.0.1", server.port) for name, server in servers.items()}
    found: dict[str, list[float]] = {name: [] for name in servers}
    for _ in range(rounds):
        for name, link in links.items():
            began = time.perf_counter()
            link.request("GET", "/train?limit=50")
            link.getresponse().read()
            found[name].append((time.perf_counter() - began) * 1000)
    return found


def past(folder: Path, jobs: int, events: int) -> None:
    """Memory when idle, and the list against one of 100 jobs."""
    large = prepared(folder, f"large-{jobs}-{events}", finished=jobs, events=events)
    small = prepared(folder, "small", finished=100, events=events)
    with serving("serve_service", data_dir=large) as there, serving("serve_service", data_dir=small) as few:
        time.sleep(_IDLE_SECONDS)
        fresh = memory_mb(there.pid), memory_mb(few.pid)
        times = list_times({"large": there, "small": few})
        time.sleep(_IDLE_SECONDS)
        used = memory_mb(there.pid), memory_mb(few.pid)
    ratio = statistics.median(times["large"]) / statistics.median(times["small"])
    rows = [
        (f"{count:,}", *(f"{m[part]:.0f}" for m in (fresh[n], used[n]) for part in ("Rss", "Pss")),
         f"{statistics.median(times[name]):.2f}")
        for n, (name, count) in enumerate((("large", jobs), ("small", 100)))
    ]  # fmt: skip
    head = ("finished jobs", "RSS MB", "PSS MB", "RSS MB, lists read", "PSS MB, lists read", "GET /train?limit=50, ms")
    most = used[0]["Rss"]
    notes = [
        f"RSS {most:.0f} MB (goal < {_MEMORY_MB:.0f}: {met(most, _MEMORY_MB, least=False)});"
        f" list ratio {ratio:.2f} (goal ≤ {_LIST_RATIO}: {met(ratio, _LIST_RATIO, least=False)})"
    ]
    show(f"{jobs:,} finished jobs with {jobs * events:,} events, idle", head, rows, notes)


def restart(folder: Path, jobs: int, rounds: int) -> None:
    """From the start of the process until it accepts."""
    rows, worst = [], 0.0
    for name, finished, queued in ((f"mixed-{jobs}", jobs - 100, 100), (f"queued-{jobs}", 0, jobs), ("empty", 0, 0)):
        data_dir = prepared(folder, name, finished=finished, queued=queued)
        took = []
        for _ in range(rounds):
            with serving("serve_service", data_dir=data_dir) as server:
                took.append(server.started_in)
        worst = max(worst, statistics.median(took))
        rows.append((f"{finished:,} finished, {queued:,} queued", f"{statistics.median(took):.2f}", f"{max(took):.2f}"))
    note = f"slowest median {worst:.2f} s (goal < {_START_SECONDS:.0f}: {met(worst, _START_SECONDS, least=False)})"
    show("Start to serving", ("jobs", "median s", "longest s"), rows, [note])


def main(folder: Path, jobs: int = 10_000, events: int = 100, restart_jobs: int = 100_000, rounds: int = 5) -> None:
    """Fill, measure and print."""
    past(folder, jobs, events)
    restart(folder, restart_jobs, rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--restart-jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    main(**vars(parser.parse_args()))
