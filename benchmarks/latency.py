"""From the trainer's write of a progress line to the reader of the job's event stream, with the real trainer.

A line of the attempt's `events.jsonl` carries the trainer's own time (`at`, taken just before it is written), the event
the service's (`time`, taken when it is stored), and the reader notes when the bytes came: all of one machine's clock.
"""

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.processes import Server, serving
from benchmarks.table import show
from common.clock import seconds
from tests.tiny import PLAIN_TEXTS, make_tiny_llama

_READ_SECONDS = 55.0
_BAD_ENDS = ("job.failed", "job.cancelled")


@frozen(kw_only=True)
class Times:
    """Milliseconds of each event: until it was stored, from there to the reader, and both."""

    stored: list[float]
    sent: list[float]
    whole: list[float]


def document(folder: Path, steps: int) -> dict[str, Any]:
    """A tiny model and its data, made in `folder`; every step is told."""
    model = make_tiny_llama(folder / "model")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in PLAIN_TEXTS))
    return {
        "job_id": "latency",
        "base_model": {"provider": "custom", "model_name": str(model)},
        "customization": {"method": "lora", "rank": 4, "precision": "fp32"},
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1},
        "datasets": [{"source": str(rows), "format": "jsonl"}],
        "artifacts": {"log_uri": str(folder / "logs"), "output_uri": str(folder / "results")},
        "tuning_parameters": {"max_steps": steps, "batch_size": 4, "logging_steps": 1},
    }


def measure(server: Server, job: dict[str, Any]) -> Times:
    """Submit the job and read its stream to the end."""
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{server.port}/train"
    request = urllib.request.Request(url, json.dumps(job).encode(), headers)
    urllib.request.urlopen(request, timeout=10).close()
    came, kept = {}, {}
    for now, event in _events(f"{url}/{job['job_id']}/events"):
        if event["type"] == "job.progress":
            came[event["data"]["step"]], kept[event["data"]["step"]] = now, seconds(event["time"])
        elif event["type"] in _BAD_ENDS:
            raise RuntimeError(f"the job did not succeed: {event}")
    told = _told(server.data_dir / "jobs" / job["job_id"])
    return Times(
        stored=[(kept[step] - at) * 1000 for step, at in told.items()],
        sent=[(came[step] - kept[step]) * 1000 for step in told],
        whole=[(came[step] - at) * 1000 for step, at in told.items()],
    )


def _told(job: Path) -> dict[int, float]:
    """When the trainer told of each step."""
    lines = map(json.loads, (job / "attempts" / "1.0" / "events.jsonl").read_text().splitlines())
    return {line["data"]["step"]: seconds(line["at"]) for line in lines if line["type"] == "progress"}


def _events(url: str) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each event with the time at which its bytes came."""
    request = urllib.request.Request(url, headers={"Accept": "text/event-stream"})
    with urllib.request.urlopen(request, timeout=_READ_SECONDS) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                yield time.time(), json.loads(line[6:])


def main(steps: int = 400) -> None:
    """Measure and print, with the usual look at the event file and with a quicker one."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        job = document(folder, steps)
        for poll in ("0.1", "0.02"):
            job["artifacts"]["output_uri"] = str(folder / f"results-{poll}")
            settings = {"TRAINYARD_BACKEND": "local", "TRAINYARD_LOCAL_DEVICES": "", "TRAINYARD_POLL_SECONDS": poll}
            with serving("serve_service", settings) as server:
                times = measure(server, job)
            for part, values in (
                ("until stored", times.stored),
                ("from stored to the reader", times.sent),
                ("whole way", times.whole),
            ):
                cuts = statistics.quantiles(values, n=100)
                rows.append((poll, part, f"{cuts[49]:.1f}", f"{cuts[98]:.1f}", f"{len(values)}"))
    head = ("poll s", "from the trainer's write", "p50 ms", "p99 ms", "events")
    show("Latency of job.progress, real trainer, one SSE reader", head, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    main(**vars(parser.parse_args()))
