"""A real service with real jobs in it, and somebody who kills."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.folder import JobFolder, Pair
from tests.chaos.acts import SAVE_STEPS, STEPS
from tests.server import ENDS, Server, events
from tests.tiny import PLAIN_TEXTS, make_tiny_llama
from trainyard import guard

_BACK_SECONDS = 180.0


class Scene:
    """A data folder, the service over it, and documents for it."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder, self.say = folder, say
        self.model = make_tiny_llama(folder / "model")
        self.rows = folder / "rows.jsonl"
        self.rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in PLAIN_TEXTS))
        self.server = Server(
            folder / "data", LOCAL_CPU_JOBS="4", RETRY_SECONDS="0.05", LOST_SECONDS="1", GRACE_SECONDS="20"
        )
        self._restarting = threading.Lock()

    def document(self, job_id: str, method: str, processes: int) -> dict[str, Any]:
        """Dropout, several micro batches, epochs that end between checkpoints, held-out rows: all have a state."""
        return {
            "job_id": job_id,
            "base_model": {"provider": "custom", "model_name": str(self.model)},
            "customization": {"method": method, "precision": "fp32"}
            | ({"rank": 4, "lora_dropout": 0.1} if method == "lora" else {}),
            "resources": {"gpus": 0, "cpus": processes, "memory_gb": 1},
            "datasets": [{"source": str(self.rows), "format": "jsonl"}],
            "artifacts": {"log_uri": str(self.folder / "logs"), "output_uri": str(self.folder / "results")},
            "tuning_parameters": {
                "max_steps": STEPS,
                "batch_size": 8,
                "micro_batch_size": 2,
                "logging_steps": 1,
                "save_steps": SAVE_STEPS,
                "save_total_limit": 3,
                "eval_ratio": 0.1,
                "eval_steps": 30,
                "lr_scheduler": "cosine",
            },
            "extra_parameters": {"processes": processes, "max_retries": 100},
        }

    def ask(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """As a patient caller does: again, until the service is back."""
        until = time.monotonic() + _BACK_SECONDS
        while True:
            try:
                return self.server.request(method, path, document)
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < until, f"the service is not back after {_BACK_SECONDS:.0f} s"
                time.sleep(0.05)

    def get(self, path: str) -> Any:
        status, found = self.ask("GET", path)
        assert status == 200, (path, status, found)
        return found

    def events(self, job_id: str) -> list[Any]:
        return list(events(self.get, job_id))

    def kill_service(self, away: float, meanwhile: Callable[[], None]) -> None:
        """kill -9, and a start after a while; two jobs may wish for it at once."""
        with self._restarting:
            self.server.kill()
            meanwhile()
            time.sleep(away)
            self.server.start()


class Subject:
    """One job as it is seen from outside: its folder, its files, its processes."""

    def __init__(self, scene: Scene, job_id: str) -> None:
        self.scene, self.job_id = scene, job_id
        self.folder = JobFolder(scene.server.data_dir / "jobs" / job_id)
        self.output = scene.folder / "results" / job_id

    @property
    def uid(self) -> str:
        """From the folder: the service may be away."""
        return str(json.loads(self.folder.spec.read_bytes())["uid"])

    def job(self) -> Any:
        return self.scene.get(f"/train/{self.job_id}")

    def ended(self) -> bool:
        return self.job()["status"] in ENDS

    def pairs(self) -> list[Pair]:
        """The attempts that were claimed, oldest first."""
        own = self.folder.path / "attempts"
        return sorted(Pair.parse(path.name) for path in own.glob("*")) if own.exists() else []

    def lines(self, pair: Pair) -> list[dict[str, Any]]:
        """What a run has told, without a line that is not whole."""
        path = self.folder.attempt(pair) / "events.jsonl"
        told = path.read_bytes() if path.exists() else b""
        return [json.loads(line) for line in told[: told.rfind(b"\n") + 1].splitlines()]

    def step(self) -> int:
        """The last step that the newest run told."""
        pairs = self.pairs()
        steps = [line["data"]["step"] for line in self.lines(pairs[-1]) if line["type"] == "progress"] if pairs else []
        return steps[-1] if steps else 0

    def saving(self) -> bool:
        """Whether the newest run is writing a checkpoint."""
        pairs = self.pairs()
        return bool(pairs) and any(self.output.glob(f"checkpoints/*.tmp-{pairs[-1]}"))

    def claimed(self) -> bool:
        pairs = self.pairs()
        return bool(pairs) and not (self.folder.attempt(pairs[-1]) / "exit.json").exists()

    def kill(self, victim: str) -> str:
        """kill -9 of one process of the newest run; who it was, in words."""
        pairs = self.pairs()
        if victim == "nobody" or not pairs:
            return "nobody"
        pid = self._pid(victim, pairs[-1])
        if pid is None:
            return f"nobody: {victim} is not there"
        guard.send(pid, signal.SIGKILL)
        return f"{victim} ({pid}) of attempt {pairs[-1]}"

    def _pid(self, victim: str, pair: Pair) -> int | None:
        own = self.folder.attempt(pair)
        guarding = _number(own / "owner.json", "pid")
        if victim == "guard":
            return guarding if guarding is not None and _guards(guarding, self.folder.path) else None
        members = guard.members(f"{self.uid}.{pair}")
        if victim.startswith("rank") and (own / "ranks" / f"{victim[-1]}.pid").exists():
            rank = int((own / "ranks" / f"{victim[-1]}.pid").read_text())
            return rank if rank in members else None
        return next((pid for pid, parent in members.items() if parent == guarding), None)

    def left(self) -> list[int]:
        """Processes of any attempt."""
        return [pid for pair in self.pairs() for pid in guard.processes_of(f"{self.uid}.{pair}")]


def _number(path: Path, key: str) -> int | None:
    try:
        return int(json.loads(path.read_bytes())[key])
    except (OSError, ValueError, KeyError):
        return None


def _guards(pid: int, folder: Path) -> bool:
    try:
        return os.fsencode(folder) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def guards_left(folder: Path) -> list[int]:
    """Guards over any job folder below `folder`."""
    own = os.fsencode(folder)
    found = []
    for path in Path("/proc").iterdir():
        try:
            line = (path / "cmdline").read_bytes() if path.name.isdigit() else b""
        except OSError:
            continue
        if b"/guard.py\0" in line and own in line:
            found.append(int(path.name))
    return found
