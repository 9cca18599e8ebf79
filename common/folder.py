"""The job folder: what lies where in it, and the fence (contract trainer.md, 1)."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:  # the trainer reads this module before its first event: it must stay light
    from common.backend import JobSpec
    from common.job import Job

FORMAT = 1

#: In the folder `ranks` of a run on several machines: touched when each of its processes is to write its stacks.
STACKS = "stacks"

_FENCE_SECONDS = 10.0


@frozen(order=True)
class Pair:
    """An attempt and its restart; compared as two numbers, the attempt first."""

    attempt: int
    restart: int = 0

    def __str__(self) -> str:
        return f"{self.attempt}.{self.restart}"

    @classmethod
    def parse(cls, text: str) -> "Pair":
        attempt, _, restart = text.strip().partition(".")
        return cls(int(attempt), int(restart or 0))


@frozen
class JobFolder:
    """Paths and files of one job."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def control(self) -> Path:
        return self.path / "control.jsonl"

    def secrets(self, attempt: int) -> Path:
        return self.path / f"secrets.{attempt}"

    def attempt(self, pair: Pair) -> Path:
        return self.path / "attempts" / str(pair)

    def fence(self) -> Pair | None:
        """The oldest run that may still write."""
        try:
            return Pair.parse((self.path / "attempt").read_text())
        except FileNotFoundError:
            return None

    def raise_fence(self, pair: Pair) -> None:
        """Shut out every run older than `pair`; the fence never sinks, whoever else raises it meanwhile."""
        if self._fenced_below(pair):
            with _alone(self.path / "attempt.lock", _FENCE_SECONDS):
                if self._fenced_below(pair):
                    write_whole(self.path / "attempt", f"{pair}\n".encode())

    def _fenced_below(self, pair: Pair) -> bool:
        present = self.fence()
        return present is None or present < pair

    def restarts(self, attempt: int) -> list[Pair]:
        """The claimed runs of an attempt, oldest first."""
        folder = self.path / "attempts"
        if not folder.is_dir():
            return []
        pairs = [Pair.parse(p.name) for p in folder.iterdir() if p.name.replace(".", "", 1).isdigit()]
        return sorted(p for p in pairs if p.attempt == attempt)

    def make(self, spec: Mapping[str, object], attempt: int, secrets: Mapping[str, object] | None) -> None:
        """Put the folder in place for an attempt; may be called again for the same one."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self.spec, json.dumps({"format": FORMAT, **spec}, indent=1).encode())
        if secrets is not None:
            write_whole(self.secrets(attempt), json.dumps({"format": FORMAT, **secrets}).encode(), mode=0o600)
        self.raise_fence(Pair(attempt))

    def command(self, attempt: Pair, record: Mapping[str, object]) -> None:
        """Append a command for the run of `attempt`."""
        line = json.dumps({"format": FORMAT, "attempt": str(attempt), **record}) + "\n"
        descriptor = os.open(self.control, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def spec_document(job: "Job", spec: "JobSpec", devices: Sequence[str] | None = ()) -> dict[str, object]:
    """What `spec.json` says of a job (contract trainer.md, 1); `JobFolder.make` adds the format.

    `devices` None: those that the scheduler gives to the run, by `CUDA_VISIBLE_DEVICES`.
    """
    recorded = {"recorded": list(spec.recorded)} if spec.recorded else {}
    return recorded | {
        "uid": job.uid,
        "job_id": job.job_id,
        "engine": spec.engine,
        "request": dict(spec.request),
        "options": dict(spec.options),
        "output": spec.output,
        "log": spec.log,
        "devices": None if devices is None else list(devices),
        "threads": spec.threads,
        "deadline_minutes": spec.deadline_minutes,
        "changes": list(spec.changes),
    }


def write_whole(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Write aside, flush, rename: the file is complete or absent. Several may write one path."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def _alone(lock: Path, seconds: float) -> Iterator[None]:
    """With nobody else who asks for the lock; after `seconds`, and where the file system has no locks, all the same."""
    until = time.monotonic() + seconds
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder outlast a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
