"""A job trained in this process, for what is looked at many times: no start-up, and its parts can be reached."""

import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from common.folder import JobFolder, Pair
from tests.tiny import PLAIN_TEXTS
from trainyard.trainer.claim import Claim, Fence, Spec
from trainyard.trainer.control import Control
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.run import Result, Run
from trainyard.trainer.secrets import Secrets

UID = "5e" * 16


class Here:
    """One job; each `train` is an attempt of it. The document's parts can be changed before each."""

    engine = "trainyard.trainer.text.engine"

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.output, self.data = JobFolder(folder / "job"), folder / "out", folder / "data.jsonl"
        self.folder.path.mkdir(parents=True)
        self.tuning: dict[str, Any] = {"learning_rate": 1e-3, "max_steps": 6, "logging_steps": 1}
        self.custom: dict[str, Any] = {"method": "lora", "precision": "fp32", "rank": 4, "lora_dropout": 0.0}
        self.model = model
        self.attempts = 0
        self.changes: list[dict[str, Any]] = []
        self.rows([{"prompt": f"Tell me of {n}. ", "completion": text} for n, text in enumerate(PLAIN_TEXTS)])

    def rows(self, rows: list[dict[str, Any]]) -> None:
        self.data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def train(self) -> Result:
        """To the end, or what ended it is raised."""
        run = self.run()
        start: Callable[[Run], Result] = import_module(self.engine).start
        with _as_it_was():
            result = start(run)
        run.report.end(result.step, result.final_uri)
        return result

    def spec(self) -> dict[str, Any]:
        """What the service writes for an attempt."""
        request = {
            "base_model": {"provider": "custom", "model_name": str(self.model)},
            "customization": self.custom,
            "datasets": [{"source": str(self.data), "format": "jsonl"}],
            "tuning_parameters": self.tuning,
        }
        rest = {"output": str(self.output), "devices": [], "threads": 1, "changes": self.changes, "options": {}}
        return {"format": 1, "uid": UID, "job_id": "job-1", "engine": "text", "request": request} | rest

    def attempt(self) -> tuple[Pair, Path]:
        """A new one, not begun, and its folder."""
        self.attempts += 1
        pair = Pair(self.attempts, 0)
        own = self.folder.attempt(pair)
        own.mkdir(parents=True)
        self.folder.raise_fence(pair)
        self.folder.spec.write_text(json.dumps(self.spec()))
        return pair, own

    def run(self) -> Run:
        """A new attempt, not begun."""
        pair, own = self.attempt()
        claim = Claim(self.folder, UID, pair, own)
        fence = Fence(self.folder, pair)
        report = Reporter(own, fence.check)
        control = Control(self.folder.control, pair, report)
        return Run(claim, fence, report, control, Secrets(), Spec.read(claim))

    def events(self, kind: str, attempt: int | None = None) -> list[dict[str, Any]]:
        own = self.folder.attempt(Pair(attempt or self.attempts, 0))
        path = own / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        return [event["data"] for event in events if event["type"] == kind]

    def losses(self, attempt: int | None = None) -> dict[int, float]:
        return {data["step"]: data["loss"] for data in self.events("progress", attempt)}

    def said(self, words: str) -> bool:
        return any(words in event["message"] for event in self.events("log"))

    @property
    def steps(self) -> list[str]:
        return sorted(path.name for path in (self.output / "checkpoints").iterdir())

    @property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.output / "manifest.json").read_text()))


@contextmanager
def _as_it_was() -> Iterator[None]:
    import torch

    threads, environ = torch.get_num_threads(), dict(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # libraries that use each other by old names
            yield
    finally:
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environ)
