"""Servers and clients as processes of their own."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from benchmarks.document import DEVICES
from benchmarks.load import Answered, Order

ROOT = Path(__file__).parent.parent
_START_SECONDS = 60.0
_RUN_SECONDS = 120.0


@frozen
class Server:
    """A server that answers."""

    pid: int
    port: int
    data_dir: Path
    log: Path
    started_in: float


@contextmanager
def serving(module: str, settings: Mapping[str, str] | None = None, data_dir: Path | None = None) -> Iterator[Server]:
    """Start `benchmarks.<module>` on a free port, wait until it accepts, end it. `data_dir`: kept, else temporary."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="bench-")) if data_dir is None else data_dir
    log = folder / "server.log"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")} | {
        "BENCH_PORT": str(port),
        "TRAINYARD_HOST": "127.0.0.1",
        "TRAINYARD_PORT": str(port),
        "TRAINYARD_DATA_DIR": str(folder),
        "TRAINYARD_BACKEND": "simulated",
        "TRAINYARD_MAX_QUEUED_JOBS": "10000000",
        "TRAINYARD_LOCAL_DEVICES": ",".join(map(str, range(DEVICES))),
        **(settings or {}),
    }
    began = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", f"benchmarks.{module}"],
            env=environ | {"PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
        try:
            wait_for(port, process, log)
            yield Server(process.pid, port, folder, log, time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if data_dir is None:
                shutil.rmtree(folder, ignore_errors=True)


def client(module: str, order: object) -> subprocess.Popen[str]:
    """Start `benchmarks.<module>` with an order; its answer is one JSON line."""
    argv = [sys.executable, "-P", "-m", f"benchmarks.{module}", json.dumps(order)]
    return subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)


def answer_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a client found out."""
    output, _ = process.communicate(timeout=_RUN_SECONDS)
    if process.returncode:
        raise RuntimeError(f"a client ended with {process.returncode}")
    found: dict[str, Any] = json.loads(output)
    return found


def load(order: Order) -> Answered:
    """Let the load generator work. Raises when an answer was not a 201."""
    answered = Answered(**answer_of(client("load", asdict(order))))
    if answered.wrong:
        raise RuntimeError(
            f"{answered.wrong} of {answered.sent} answers were not 201; the first: {answered.first_wrong}"
        )
    return answered


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Where nobody listens now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path | None = None) -> None:
    """Until a process listens. Raises `RuntimeError` with its log when it ends before."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            said = "" if log is None else f": {log.read_text(errors='replace')[-2000:]}"
            raise RuntimeError(f"the server ended with {process.returncode}{said}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise TimeoutError(f"no server on port {port} after {_START_SECONDS:.0f} s")
