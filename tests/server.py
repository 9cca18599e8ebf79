"""The service as a process, as an operator runs it: started, killed, started again on the same data and port."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_START_SECONDS = 120
ENDS = ("succeeded", "failed", "cancelled")


_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port for a server of ours; while this process lives it is given to nobody who asks for any port.

    A socket that does not listen holds it: servers that set SO_REUSEADDR, as ours do, are let in beside it.
    """
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    _HELD.append(probe)
    port: int = probe.getsockname()[1]
    return port


class Server:
    """`trainyard server` on a free port; `settings` are TRAINYARD_* without the prefix."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = {
            "GRACE_SECONDS": "3",
            "POLL_SECONDS": "0.05",
            "LOST_SECONDS": "2",
            "MIN_FREE_BYTES": "0",
            "STOP_SECONDS": "2",
            "MIRROR_SECONDS": "0.2",
            "WEBHOOK_FIRST_RETRY_SECONDS": "0.1",
            **settings,
        }
        self.log = data_dir.parent / "server.log"
        self.python = sys.executable
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> "Server":
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TRAINYARD_")}
        environ |= {f"TRAINYARD_{name}": value for name, value in self.settings.items()}
        command = [self.python, "-P", "-m", "trainyard.cli", "server", "--host", "127.0.0.1"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--data-dir", str(self.data_dir)],
                env=environ,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            assert self.process is not None
            if self.process.poll() is not None:
                raise AssertionError(f"the server left with {self.process.returncode}:\n{self.log.read_text()}")
            try:
                self.get("/healthz")
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(f"the server is not ready after {_START_SECONDS} s:\n{self.log.read_text()}")

    def kill(self) -> None:
        """kill -9, and nothing else."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=_START_SECONDS)

    def end(self) -> None:
        """Leave nothing: cancel what runs, then stop."""
        if self.process is None:
            return
        if self.process.poll() is None:
            for job in self.get("/train?limit=500&status=running&status=queued")["jobs"]:
                self.request("POST", f"/train/{job['job_id']}/cancel")
                self.wait_end(job["job_id"])
            self.stop()

    def request(self, method: str, path: str, document: object = None, **headers: str) -> tuple[int, Any]:
        body = None if document is None else json.dumps(document).encode()
        asked = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json", **headers})
        asked.method = method
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, _decoded(answer.read())
        except urllib.error.HTTPError as e:
            with e:
                return e.code, _decoded(e.read())

    def get(self, path: str) -> Any:
        status, found = self.request("GET", path)
        assert status < 400, (path, status, found)
        return found

    def post(self, document: object) -> Any:
        status, found = self.request("POST", "/train", document)
        assert status in (200, 201), (status, found)
        return found

    def wait_for(self, job_id: str, *statuses: str, seconds: float = 120) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            job = self.get(f"/train/{job_id}")
            if job["status"] in statuses:
                return job
            assert job["status"] not in ENDS, (job["status"], self.events(job_id)[-1])
            time.sleep(0.1)
        raise AssertionError(f"{job_id} is not {statuses} after {seconds} s: {job['status']}, {job['detail']}")

    def wait_end(self, job_id: str, seconds: float = 120) -> Any:
        return self.wait_for(job_id, *ENDS, seconds=seconds)

    def events(self, job_id: str) -> list[Any]:
        return list(events(self.get, job_id))


def events(get: Callable[[str], Any], job_id: str) -> Iterator[Any]:
    """Those of a job, page by page as `get` answers."""
    after: int | None = 0
    while after is not None:
        page = get(f"/train/{job_id}/events?after={after}")
        yield from page["events"]
        after = page["next_after"]


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()
