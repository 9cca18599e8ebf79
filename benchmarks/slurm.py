"""The Slurm backend against a shell loop of `sbatch`, its questions with many live jobs, and the way of an event.

`python -m benchmarks.slurm` needs root and starts a real Slurm of its own (`scripts/slurm-up --install` installs it).
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.processes import ROOT, Server, cpu_seconds, free_port, serving, wait_for
from benchmarks.table import met, ratio, show
from common.job import ENDS

_GOAL_SUBMIT, _GOAL_LATE = 0.7, 1.0
_CONNECTIONS = 16
_LONGEST_PAUSE = 0.25
_LOOP = "for i in $(seq {count}); do sbatch --parsable --job-name=loop$i --output=/dev/null --mem=100 {script}; done"
#: Tells one event, with the moment as its time, and ends.
_TELLS = """
import json, os, pathlib, time, datetime
time.sleep(1)
at = datetime.datetime.now(datetime.timezone.utc).isoformat()
line = {"format": 1, "n": 1, "type": "phase", "at": at, "data": {"phase": "training"}}
(pathlib.Path(os.environ["TRAINYARD_ATTEMPT_DIR"]) / "events.jsonl").write_text(json.dumps(line) + "\\n")
time.sleep(1)
"""


@contextmanager
def cluster() -> Iterator[Path]:
    """A Slurm of our own, to which this process's environment leads."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as name:
        folder = Path(name)
        subprocess.run([ROOT / "scripts" / "slurm-up", folder], check=True, stdout=subprocess.DEVNULL)
        os.environ["SLURM_CONF"] = str(folder / "etc" / "slurm.conf")
        try:
            yield folder
        finally:
            subprocess.run([ROOT / "scripts" / "slurm-down", folder], check=True)


@contextmanager
def away(folder: Path, milliseconds: float) -> Iterator[None]:
    """Inside the block the commands started from here reach the controller so much later."""
    conf, port = Path(os.environ["SLURM_CONF"]), free_port()
    said = conf.read_text()
    found = re.search(r"^SlurmctldPort=(\d+)$", said, re.MULTILINE)
    assert found is not None
    order = json.dumps({"port": port, "to": int(found[1]), "milliseconds": milliseconds})
    slower = folder / "away.conf"
    slower.write_text(said.replace(found[0], f"SlurmctldPort={port}"))
    network = subprocess.Popen([sys.executable, "-P", "-m", "benchmarks.far", order], env={"PYTHONPATH": str(ROOT)})
    os.environ["SLURM_CONF"] = str(slower)
    try:
        wait_for(port, network)
        yield
    finally:
        os.environ["SLURM_CONF"] = str(conf)
        network.kill()
        network.wait()


@contextmanager
def counted(folder: Path) -> Iterator[Path]:
    """Inside the block each `squeue` leaves a line in the file."""
    seen, bins = folder / "asked", folder / "bin"
    bins.mkdir(exist_ok=True)
    seen.touch()
    script = bins / "squeue"
    script.write_text(f'#!/bin/sh\necho >>{seen}\nexec /usr/bin/squeue "$@"\n')
    script.chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{bins}:{before}"
    try:
        yield seen
    finally:
        os.environ["PATH"] = before


def document(job_id: str, folder: Path, code: str = "") -> dict[str, Any]:
    """A job that hardly does anything."""
    return {
        "job_id": job_id,
        "base_model": {"provider": "custom", "model_name": "none/none"},
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1, "max_duration_minutes": 10},
        "datasets": [{"source": "/none.jsonl", "format": "jsonl"}],
        "artifacts": {"log_uri": str(folder / "logs"), "output_uri": str(folder / "out")},
        "extra_parameters": {"command": [sys.executable, "-I", "-S", "-c", code]},
    }


def service(poll: float, port: int = 1) -> dict[str, str]:
    """Its settings; nothing posts to it, so that the URL may be any."""
    return {
        "TRAINYARD_BACKEND": "slurm",
        "TRAINYARD_SLURM_POLL_SECONDS": str(poll),
        "TRAINYARD_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }


async def submit(server: Server, count: int) -> float:
    """Seconds from the first POST until Slurm has all of them."""
    timeout, connector = aiohttp.ClientTimeout(total=120), aiohttp.TCPConnector(limit=_CONNECTIONS)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}", timeout=timeout, connector=connector) as http:
        began = time.perf_counter()

        async def post(n: int) -> None:
            async with http.post("/train", json=document(f"job-{n}", server.data_dir)) as answer:
                assert answer.status == 201, await answer.text()

        posting = asyncio.gather(*(post(n) for n in range(count)))
        have = 0
        while (have := queued(have)) < count:  # asking takes its share of the processors: seldom while many are missing
            so_far = time.perf_counter() - began
            await asyncio.sleep(min(max((count - have) * so_far / max(have, 1) / 2, 0.02), _LONGEST_PAUSE))
        took = time.perf_counter() - began
        await posting
    return took


def queued(before: int) -> int:
    """How many jobs Slurm has; from its controller's counter, which may miss one of two that come at one moment.

    Where it stands as `before`, they are counted.
    """
    said = subprocess.run(["sdiag"], capture_output=True, text=True, check=True).stdout
    have = next(int(line.split(":")[1]) for line in said.splitlines() if line.startswith("Jobs submitted"))
    return have if have > before else len(waiting())


def waiting() -> list[str]:
    """The numbers of the jobs that have not ended."""
    return subprocess.run(["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True).stdout.split()


def reset() -> None:
    """An empty queue, and counting begun anew."""
    if jobs := waiting():
        subprocess.run(["scancel", *jobs], check=True)
    subprocess.run(["sdiag", "--reset"], check=True, stdout=subprocess.DEVNULL)


def hold(*, down: bool) -> None:
    """Whether jobs wait: what is measured is their submission."""
    state = "down" if down else "up"
    subprocess.run(["scontrol", "update", "partitionname=main", f"state={state}"], check=True)


def submissions(count: int, rounds: int, milliseconds: float = 0) -> None:
    """The service against the loop, in turn; with a controller that answers so much later.

    Its folders stay until the end: ext4 looks for unused inodes one by one where many were freed in the last minutes.
    """
    loops, ours, busy = [], [], []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        script = Path(name) / "script.sh"
        script.write_text("#!/bin/sh\ntrue\n")
        for n in range(rounds):
            reset()
            began = time.perf_counter()
            loop = _LOOP.format(count=count, script=script)
            subprocess.run(["bash", "-c", loop], check=True, stdout=subprocess.DEVNULL)
            loops.append(time.perf_counter() - began)
            reset()
            folder = Path(name) / str(n)
            folder.mkdir()
            with serving("serve_service", service(5), folder) as server:
                time.sleep(1)
                before = cpu_seconds(server.pid)
                ours.append(asyncio.run(submit(server, count)))
                busy.append((cpu_seconds(server.pid) - before) / count * 1e3)
    value = ratio(ours, loops)
    rows = [
        (name, f"{statistics.median(took):.2f}", f"{count / statistics.median(took):.0f}", cpu)
        for name, took, cpu in (
            ("sbatch in a shell loop", loops, ""),
            ("the service, from POST to sbatch", ours, f"{statistics.median(busy):.1f}"),
        )
    ]
    head = ("", "seconds", "jobs/s", "service's CPU ms a job")
    note = f"wall time {value:.2f} × (goal ≤ {_GOAL_SUBMIT}: {met(value, _GOAL_SUBMIT, least=False)})"
    where = f", the controller {milliseconds:g} ms away" if milliseconds else ""
    show(f"{count} submissions, {rounds} rounds, medians{where}", head, rows, [note])


def questions(folder: Path, count: int, seconds: float) -> None:
    """How often Slurm is asked while many jobs are live."""
    rows = []
    for poll in (5.0, 1.0):
        reset()
        with counted(folder) as seen, serving("serve_service", service(poll)) as server:
            asyncio.run(submit(server, count))
            before, used = len(seen.read_bytes()), cpu_seconds(server.pid)
            time.sleep(seconds)
            asked, busy = len(seen.read_bytes()) - before, cpu_seconds(server.pid) - used
        rows.append((f"{poll:g} s", str(asked), f"{seconds / poll:.0f}", f"{busy / seconds:.1%}"))
    head = ("poll interval", "questions", "at most", "service's CPU")
    show(f"{count:,} live jobs, {seconds:.0f} s", head, rows)


async def events(server: Server, count: int) -> list[float]:
    """Seconds from an event's own time to a reader of the stream, for one job after the other."""
    found: list[float] = []
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as http:
        for n in range(count):
            asked = document(f"job-{n}", server.data_dir, _TELLS)
            async with http.post("/train", json=asked) as answer:
                assert answer.status == 201, await answer.text()
            accept = {"Accept": "text/event-stream"}
            async with http.get(f"/train/job-{n}/events", headers=accept) as stream:
                async for line in stream.content:
                    event = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                    if event.get("type") == "job.phase":
                        found.append(time.time() - datetime.fromisoformat(event["data"]["at"]).timestamp())
                        break
                    if event.get("status") in ENDS:
                        raise RuntimeError(f"job-{n} told nothing of its run before it ended: {event}")
    return found


def latency(count: int) -> None:
    """From a run's first event to the client."""
    rows, notes = [], []
    for poll in (5.0, 1.0):
        reset()
        with serving("serve_service", service(poll)) as server:
            took = asyncio.run(events(server, count))
        rows.append((f"{poll:g} s", f"{statistics.median(took):.2f}", f"{max(took):.2f}", f"{poll + _GOAL_LATE:g}"))
        notes.append(f"poll interval {poll:g} s: {met(max(took), poll + _GOAL_LATE, least=False)}")
    show(f"A run's first event, {count} jobs", ("poll interval", "median s", "longest s", "goal <"), rows, notes)


def main(count: int, live: int, rounds: int, seconds: float, jobs: int, far: float) -> None:
    """Measure and print."""
    with cluster() as folder:
        hold(down=True)
        submissions(count, rounds)
        with away(folder, far):
            submissions(count, rounds, far)
        questions(folder, live, seconds)
        reset()
        hold(down=False)
        latency(jobs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--far", type=float, default=20, help="milliseconds to a controller elsewhere")
    main(**vars(parser.parse_args()))
