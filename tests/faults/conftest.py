"""`guarded`: a job folder with an ugly name, and real guards started over it."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard import guard

UNTIL_GO = 'until [ -e "${TRAINYARD_SPEC%/*}/go" ]; do sleep 0.02; done'


class Guarded:
    """Runs `guard.py` the way a backend does; `end` cleans up whatever a failed test left."""

    def __init__(self, job: Path) -> None:
        self.job = job
        self.uid = uuid.uuid4().hex
        self.program = guard.__file__
        self.started: list[subprocess.Popen[bytes]] = []
        self.spec()

    def spec(self, **values: object) -> None:
        defaults = {"format": 1, "uid": self.uid, "job_id": "job-1", "devices": [], "threads": 1}
        (self.job / "spec.json").write_text(json.dumps(defaults | values))

    def start(self, *argv: str, options: tuple[str, ...] = (), n: int = 1, **env: str) -> subprocess.Popen[bytes]:
        own = [sys.executable, "-I", "-S", self.program, *options, str(self.job), str(n), "--", *argv]
        process = subprocess.Popen(own, env=os.environ | env, start_new_session=True, stderr=subprocess.PIPE)
        self.started.append(process)
        return process

    def shell(self, script: str, **more: Any) -> subprocess.Popen[bytes]:
        return self.start("sh", "-c", script, **more)

    def code(self) -> int:
        return self.started[-1].wait(90)

    def go(self) -> None:
        """Let a program go on that waits for it."""
        (self.job / "go").touch()

    def folder(self, pair: str = "1.0") -> Path:
        return self.job / "attempts" / pair

    def exit(self, pair: str = "1.0") -> dict[str, Any]:
        return dict(json.loads((self.folder(pair) / "exit.json").read_text()))

    def log(self) -> str:
        path = self.job / "train.log"
        return path.read_text() if path.exists() else ""

    def until(self, holds: Callable[[], object] | str) -> Any:
        """Wait until it holds; a string is waited for in the log."""
        late = time.monotonic() + 60
        while not (value := holds in self.log() if isinstance(holds, str) else holds()):
            assert time.monotonic() < late, f"not within 60 s: {holds!r}; the log says:\n{self.log()}"
            time.sleep(0.01)
        return value

    def alive(self, pair: str = "1.0") -> list[int]:
        return guard.processes_of(f"{self.uid}.{pair}")

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        for claimed in (self.job / "attempts").glob("*"):
            guard.end_run(f"{self.uid}.{claimed.name}")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    job = tmp_path / 'a job\'s "folder" \\ with $HOME\nand more'
    job.mkdir()
    run = Guarded(job)
    yield run
    run.end()
