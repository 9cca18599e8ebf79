"""What checkpoints, stops and resumes cost: `python -m benchmarks.checkpoints`.

The stall of a checkpoint beside the bare saving of the same state; from SIGTERM to the saved checkpoint of a real run;
and how much later than a fresh run a resumed one comes to its first new step.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import evolve, field, frozen

from benchmarks.processes import ROOT
from benchmarks.table import met, show
from benchmarks.training import METHODS, asked
from benchmarks.training_work import THREADS, Size, Work, working
from common.clock import seconds
from common.folder import FORMAT

_UID = "be" * 16
_WAIT_SECONDS = 600.0
_STEPS_BEFORE_STOP = 4
_STALL, _STOP, _RESUME = 1.15, 1.3, 1.2


@frozen
class Rounds:
    """Seconds, a list entry a round."""

    saving: dict[str, list[float]]
    parameters: int
    step: list[float] = field(factory=list)
    fresh: list[float] = field(factory=list)
    stop: list[float] = field(factory=list)
    resumed: list[float] = field(factory=list)


class Run:
    """One job over a folder of its own, started as the guard starts it; attempts follow each other."""

    def __init__(self, work: Work, method: str, folder: Path) -> None:
        self.folder, self.attempts = folder, 0
        request = work.document(method, packing=True, logging_steps=1)
        request["tuning_parameters"] |= {"max_steps": 100_000, "save_total_limit": 1}
        self.spec = {"format": FORMAT, "uid": _UID, "job_id": "checkpoints", "engine": "text", "request": request}
        self.spec |= {"options": {"cache_dir": str(folder / "cache")}, "output": str(folder / "out")}
        self.spec |= {"log": str(folder), "devices": [], "threads": THREADS}

    def stopped_after(self, steps: int, pause: float) -> tuple[list[float], float, float]:
        """Start an attempt, and stop it `pause` of a step after so many; when it told its steps, asked, had saved.

        All three are seconds since its start.
        """
        self.attempts += 1
        attempt = self.folder / "attempts" / f"{self.attempts}.0"
        attempt.mkdir(parents=True)
        (self.folder / "spec.json").write_text(json.dumps(self.spec))
        (self.folder / "attempt").write_text(f"{self.attempts}.0\n")
        environ = {k: v for k, v in os.environ.items() if not k.startswith("TRAINYARD_")} | {
            "TRAINYARD_RUN": f"{_UID}.{self.attempts}.0",
            "TRAINYARD_ATTEMPT_DIR": str(attempt),
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
        }
        argv = [sys.executable, "-P", "-m", "trainyard.trainer", str(self.folder)]
        began = time.time()
        with (self.folder / "train.log").open("ab") as log:
            process = subprocess.Popen(argv, env=environ, stdout=log, stderr=log)
        try:
            while len(told := _told(attempt, "progress")) < steps:
                if process.poll() is not None or time.time() - began > _WAIT_SECONDS:
                    raise RuntimeError(f"no {steps} steps: {(self.folder / 'train.log').read_text()[-2000:]}")
                time.sleep(0.005)
            time.sleep(pause * (told[-1] - told[-2]))
            asked_at = time.time()
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(_WAIT_SECONDS)) != 75:
                raise RuntimeError(f"left with {code}: {(self.folder / 'train.log').read_text()[-2000:]}")
        finally:
            process.kill()
            process.wait()
        saved = _told(attempt, "checkpoint")[-1]
        return [at - began for at in _told(attempt, "progress")], asked_at - began, saved - began


def _told(attempt: Path, kind: str) -> list[float]:
    path = attempt / "events.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return [seconds(line["at"]) for line in lines if line["type"] == kind]


def saving(work: Work, method: str, rounds: int) -> Rounds:
    """The ways to save, in one process."""
    with tempfile.TemporaryDirectory(dir=work.folder) as own:
        order: dict[str, Any] = {"folder": own, "model": str(work.model), "rows": str(work.rows), "method": method}
        order |= {"rounds": rounds, "threads": THREADS, "tuning": {"max_sequence_length": 32}}
        argv = [sys.executable, "-P", "-m", "benchmarks.saving", json.dumps(order)]
        environ = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=_WAIT_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return Rounds(found["seconds"], found["parameters"])


def runs(work: Work, method: str, rounds: int, into: Rounds) -> None:
    """A fresh run and its resume, in turn; both are stopped at a moment drawn from a seed."""
    chance = random.Random(5)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=work.folder) as own:
            run = Run(work, method, Path(own))
            for first in (into.fresh, into.resumed):
                steps, asked_at, saved_at = run.stopped_after(_STEPS_BEFORE_STOP, chance.random())
                first.append(steps[0])
                into.stop.append(saved_at - asked_at)
                into.step.append(statistics.median(b - a for a, b in pairwise(steps)))


def shown(title: str, found: Rounds) -> None:
    """A table, and the three ratios below it."""
    named = {
        "save_pretrained + torch.save, bare": found.saving["bare"],
        "the same and fsync": found.saving["flushed"],
        "a checkpoint: what the loop waits for": found.saving["beside"],
        "a checkpoint of a stop: until it stands": found.saving["stopping"],
        "weights and optimizer loaded, bare": found.saving["load"],
        "a step": found.step,
        "SIGTERM to saved": found.stop,
        "start to the first step, fresh": found.fresh,
        "start to the first new step, resumed": found.resumed,
    }
    rows = [
        (name, f"{1000 * statistics.median(took):,.0f}", f"{1000 * min(took):,.0f}-{1000 * max(took):,.0f}")
        for name, took in named.items()
    ]
    bare, load = statistics.median(found.saving["bare"]), statistics.median(found.saving["load"])
    stall = statistics.median(a / b for a, b in zip(found.saving["beside"], found.saving["bare"], strict=True))
    most = [step + _STOP * bare for step in found.step]
    stop = statistics.median(a / b for a, b in zip(found.stop, most, strict=True))
    pairs = zip(found.resumed, found.fresh, strict=True)
    resume = statistics.median(new / (_RESUME * old + load) for new, old in pairs)
    notes = (
        f"a checkpoint's stall / bare: {stall:.2f} (goal ≤ {_STALL}: {met(stall, _STALL, least=False)})",
        f"SIGTERM to saved / (a step + {_STOP} × bare): {stop:.2f} (goal ≤ 1: {met(stop, 1, least=False)})",
        f"resumed / ({_RESUME} × fresh + load): {resume:.2f} (goal ≤ 1: {met(resume, 1, least=False)})",
    )
    show(f"{title}, {found.parameters / 1e6:.1f} M parameters", ("milliseconds", "median", "range"), rows, notes)


def main(rounds: int = 5, size: Size = Size(), methods: Sequence[str] = METHODS) -> None:
    """Measure and print."""
    with working(evolve(size, steps=2, warm=1)) as work:
        for method in methods:
            found = saving(work, method, max(rounds, 3))
            runs(work, method, rounds, found)
            shown(f"{method}, {rounds} rounds", found)


if __name__ == "__main__":
    main(*asked(argparse.ArgumentParser(description=__doc__)))
