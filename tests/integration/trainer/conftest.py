"""`job`: a job folder as the service makes it, and the real trainer started over it as the guard does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trainyard
from tests.here import Here
from tests.tiny import PLAIN_TEXTS

UID = "5e" * 16
_ROOT = Path(trainyard.__file__).parents[1]


class Job:
    """One job; `run` and `start` begin an attempt of it."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.output = folder / "job", folder / "out"
        self.data = folder / "data.jsonl"
        self.tuning: dict[str, Any] = {"learning_rate": 1e-3, "max_steps": 6, "logging_steps": 1}
        self.custom: dict[str, Any] = {"method": "lora", "precision": "fp32", "rank": 4}
        self.base: dict[str, Any] = {"provider": "custom", "model_name": str(model)}
        self.datasets: list[dict[str, Any]] = []
        self.extra: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.changes: list[dict[str, Any]] = []
        self.secrets: dict[str, Any] | None = None
        self.started: list[subprocess.Popen[bytes]] = []
        #: Folders of Python's path before ours: a `sitecustomize` there is run by every process of the job.
        self.paths: list[str] = []
        self.folder.mkdir(parents=True)
        self.rows([{"prompt": f"Tell me of {n}. ", "completion": text} for n, text in enumerate(PLAIN_TEXTS)])

    def rows(self, rows: list[dict[str, Any]]) -> None:
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def start(self, attempt: str = "1.0", options: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[bytes]:
        request = {
            "base_model": self.base,
            "customization": self.custom,
            "datasets": self.datasets or [{"source": str(self.data), "format": "jsonl"}],
            "tuning_parameters": self.tuning,
            "extra_parameters": self.extra,
        }
        spec = {"format": 1, "uid": UID, "job_id": "job-1", "engine": "text", "request": request}
        places = {
            "output": str(self.output),
            "log": str(self.folder.parent),
            "options": self.options,
            "devices": [],
            "threads": 1,
            "changes": self.changes,
        }
        (self.folder / "spec.json").write_text(json.dumps(spec | places))
        if self.secrets:
            (self.folder / f"secrets.{attempt.partition('.')[0]}").write_text(json.dumps({"format": 1} | self.secrets))
        own = self.folder / "attempts" / attempt
        own.mkdir(parents=True)
        self.fence(attempt)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": os.pathsep.join([*self.paths, str(_ROOT)]),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "TRAINYARD_RUN": f"{UID}.{attempt}",
            "TRAINYARD_ATTEMPT_DIR": str(own),
        }
        environ |= {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "HF_"))}
        argv = [sys.executable, "-P", *options, "-m", "trainyard.trainer", str(self.folder)]
        with (self.folder / "train.log").open("ab") as log:
            child = subprocess.Popen(argv, env=environ, stdout=log, stderr=log, cwd=self.folder, **more)
        self.started.append(child)
        return child

    def run(self, attempt: str = "1.0", **more: Any) -> int:
        return self.start(attempt, **more).wait(timeout=280)

    def fence(self, pair: str) -> None:
        (self.folder / "attempt.new").write_text(pair + "\n")
        (self.folder / "attempt.new").rename(self.folder / "attempt")

    def command(self, attempt: str = "1.0", **record: Any) -> None:
        with (self.folder / "control.jsonl").open("a") as file:
            file.write(json.dumps({"format": 1, "attempt": attempt} | record) + "\n")

    def events(self, kind: str | None = None, attempt: str = "1.0") -> list[dict[str, Any]]:
        path = self.folder / "attempts" / attempt / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        assert [e["n"] for e in events] == list(range(1, len(events) + 1)), "n counts from 1 without a hole"
        return [e["data"] if kind else e for e in events if kind in (None, e["type"])]

    def wait(
        self, kind: str, child: subprocess.Popen[bytes], matching: Callable[[dict[str, Any]], bool] = bool
    ) -> None:
        """Until an event of this kind was told."""
        until = time.monotonic() + 200
        while not any(matching(data) for data in self.events(kind)):
            assert child.poll() is None, f"the run ended with {child.returncode}: {self.log[-2000:]}"
            assert time.monotonic() < until, f"no {kind} was told"
            time.sleep(0.02)

    def losses(self, attempt: str = "1.0") -> dict[int, float]:
        return {data["step"]: data["loss"] for data in self.events("progress", attempt)}

    @property
    def log(self) -> str:
        return (self.folder / "train.log").read_text()

    @property
    def steps(self) -> list[str]:
        return sorted(path.name for path in (self.output / "checkpoints").iterdir())


@pytest.fixture
def new_job(tmp_path: Path, tiny_model: Path) -> Iterator[Callable[[str], Job]]:
    jobs: list[Job] = []

    def make(name: str) -> Job:
        jobs.append(Job(tmp_path / name, tiny_model))
        return jobs[-1]

    yield make
    for child in (child for job in jobs for child in job.started):
        if child.poll() is None:
            child.send_signal(signal.SIGKILL)
            child.wait()
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def job(new_job: Callable[[str], Job]) -> Job:
    return new_job("a job's 'ugly' folder")


@pytest.fixture
def new_here(tmp_path: Path, tiny_model: Path) -> Callable[[str], Here]:
    """Jobs that are trained in this process."""
    return lambda name: Here(tmp_path / name, tiny_model)


@pytest.fixture
def here(new_here: Callable[[str], Here]) -> Here:
    return new_here("here")
