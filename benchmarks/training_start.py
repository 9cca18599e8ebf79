"""How long until the first optimiser step is done: `python -m benchmarks.training_start`.

Ours and the TRL script from the start of their process; ours once more from `POST /train` through a real service.
"""

import argparse
import json
import statistics
import time
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial

from attrs import evolve

from benchmarks.processes import serving
from benchmarks.table import interleaved, met, ratio, show
from benchmarks.training import METHODS, asked
from benchmarks.training_work import Seen, Size, Work, by_peer, by_us, seen_in, working

_GOALS = {"full": 0.8, "lora": 0.9}
_JOB_SECONDS = 300.0


def by_service(work: Work, method: str) -> Seen:
    """From the POST; the service already runs, as it does when somebody submits a job."""
    local = {"TRAINYARD_BACKEND": "local", "TRAINYARD_LOCAL_DEVICES": ""}
    with serving("serve_service", local) as server:
        job = work.document(method, packing=True, logging_steps=1)
        job["artifacts"]["output_uri"] = str(server.data_dir / "out")
        url = f"http://127.0.0.1:{server.port}/train"
        request = urllib.request.Request(url, json.dumps(job).encode(), {"Content-Type": "application/json"})
        started = time.time()
        urllib.request.urlopen(request, timeout=10).close()
        _wait(f"{url}/{job['job_id']}")
        return seen_in(server.data_dir / "jobs" / job["job_id"] / "attempts" / "1.0" / "events.jsonl", started)


def _wait(url: str) -> None:
    until = time.monotonic() + _JOB_SECONDS
    while time.monotonic() < until:
        with urllib.request.urlopen(url, timeout=10) as answer:
            job = json.load(answer)
        if job["status"] == "succeeded":
            return
        if job["status"] in ("failed", "cancelled"):
            raise RuntimeError(f"the job did not succeed: {job}")
        time.sleep(0.5)
    raise TimeoutError(f"{url} took more than {_JOB_SECONDS:.0f} s")


def main(rounds: int = 5, size: Size = Size(), methods: Sequence[str] = METHODS) -> None:
    """Measure and print."""
    with working(evolve(size, steps=2, warm=1)) as work:
        measures: dict[str, Callable[[], Seen]] = {}
        for method in methods:
            measures[f"ours, {method}"] = partial(by_us, work, method, packing=True)
            measures[f"ours, {method}, from POST"] = partial(by_service, work, method)
            measures[f"TRL, bfd, {method}"] = partial(by_peer, work, "trl_sft", method, "bfd")
        found = interleaved(rounds, measures)
    times = {name: [seen.to_first_step for seen in runs] for name, runs in found.items()}
    rows, notes = [], []
    for name, seen in times.items():
        rows.append((name, f"{statistics.median(seen):.2f}", f"{min(seen):.2f}-{max(seen):.2f}"))
    for method, goal in ((method, _GOALS[method]) for method in methods):
        for ours in (f"ours, {method}", f"ours, {method}, from POST"):
            value = ratio(times[ours], times[f"TRL, bfd, {method}"])
            notes.append(f"{ours} / TRL: {value:.2f} (goal ≤ {goal}: {met(value, goal, least=False)})")
    show(f"{rounds} rounds, medians", ("seconds to the end of the first step", "median", "range"), rows, notes)


if __name__ == "__main__":
    main(*asked(argparse.ArgumentParser(description=__doc__)))
