"""The work that trainers are compared by: one model, one file of rows, so many steps; ours as the guard starts it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import asdict, evolve, frozen

from benchmarks.processes import ROOT
from common.clock import seconds
from common.folder import FORMAT
from tests.tiny import make_tiny_llama

_UID = "be" * 16
_RUN_SECONDS = 1_800.0
THREADS = len(os.sched_getaffinity(0))


@frozen(kw_only=True)
class Size:
    """The model and the steps: 9.9 million parameters, 4 × 256 tokens a step."""

    hidden: int = 256
    layers: int = 8
    length: int = 256
    batch: int = 4
    rate: float = 1e-3
    #: Steps before the clock starts; as many steps make one report.
    warm: int = 5
    steps: int = 30


@frozen
class Work:
    """A folder with the model and the rows, and how much is done with them."""

    folder: Path
    size: Size

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.jsonl"

    def document(self, method: str, *, packing: bool, logging_steps: int | None = None) -> dict[str, Any]:
        """The job of ours."""
        return {
            "job_id": "training",
            "base_model": {"provider": "custom", "model_name": str(self.model)},
            "customization": {"method": method, "precision": "fp32"},
            "resources": {"gpus": 0, "cpus": THREADS},
            "datasets": [{"source": str(self.rows), "format": "jsonl"}],
            "artifacts": {"output_uri": str(self.folder / "out"), "log_uri": str(self.folder / "logs")},
            "tuning_parameters": {
                "learning_rate": self.size.rate,
                "batch_size": self.size.batch,
                "micro_batch_size": self.size.batch,
                "max_steps": self.size.steps,
                "max_sequence_length": self.size.length,
                "packing": packing,
                "logging_steps": logging_steps or self.size.warm,
            },
        }


@frozen
class Seen:
    """What one run showed."""

    started_at: float
    first_step_at: float
    tokens_per_second: float
    #: On a GPU: the most that was held at once.
    peak_bytes: int = 0

    @property
    def to_first_step(self) -> float:
        """Seconds from the start of the process."""
        return self.first_step_at - self.started_at


@contextmanager
def working(size: Size) -> Iterator[Work]:
    """Make model and rows: CPython's own help texts, paragraph by paragraph."""
    from pydoc_data.topics import topics

    texts = [part.strip() for topic in topics.values() for part in topic.split("\n\n") if len(part.strip()) > 20]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        work = Work(Path(name), size)
        make_tiny_llama(work.model, texts, hidden=size.hidden, layers=size.layers, vocab=8000, positions=2048)
        work.rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        yield work


def by_peer(work: Work, script: str, method: str, packing: str, more: Mapping[str, Any] | None = None) -> Seen:
    """A plain script of `benchmarks/peers`; datasets' cache is new, as ours has none."""
    with tempfile.TemporaryDirectory(dir=work.folder) as own:
        order = asdict(work.size) | {"model": str(work.model), "rows": str(work.rows), "output": own, **(more or {})}
        argv = [sys.executable, str(ROOT / "benchmarks" / "peers" / f"{script}.py")]
        environ = environment() | {"HF_DATASETS_CACHE": str(Path(own) / "datasets")}
        environ |= {"CUDA_VISIBLE_DEVICES": "0"} if (more or {}).get("dtype") == "bf16" else {}
        started, output = _run([*argv, json.dumps(order | {"method": method, "packing": packing})], environ)
    found = json.loads(output.splitlines()[-1])
    return Seen(started, found["first_step_at"], found["tokens_per_second"], found["peak_bytes"])


def by_us(
    work: Work,
    method: str,
    *,
    packing: bool,
    logging_steps: int | None = None,
    change: Callable[[dict[str, Any]], None] = lambda spec: None,
) -> Seen:
    """Our trainer over a job folder, started as the guard starts it; `change` may change its spec."""
    with tempfile.TemporaryDirectory(dir=work.folder) as own:
        job, attempt = Path(own) / "job", Path(own) / "job" / "attempts" / "1.0"
        attempt.mkdir(parents=True)
        (job / "attempt").write_text("1.0\n")
        spec: dict[str, Any] = {
            "format": FORMAT,
            "uid": _UID,
            "job_id": "training",
            "engine": "text",
            "request": work.document(method, packing=packing, logging_steps=logging_steps),
            "options": {"cache_dir": str(job / "cache")},
            "output": str(Path(own) / "out"),
            "log": own,
            "devices": [],
            "threads": THREADS,
        }
        change(spec)
        (job / "spec.json").write_text(json.dumps(spec))
        environ = environment(",".join(spec["devices"])) | {
            "TRAINYARD_RUN": f"{_UID}.1.0",
            "TRAINYARD_ATTEMPT_DIR": str(attempt),
        }
        started, _ = _run([sys.executable, "-P", "-m", "trainyard.trainer", str(job)], environ)
        seen = seen_in(attempt / "events.jsonl", started)
        manifest = json.loads((Path(own) / "out" / "manifest.json").read_text())
        return evolve(seen, peak_bytes=manifest["memory"]["peak_bytes"])


def seen_in(events: Path, started: float) -> Seen:
    """From what the trainer told: the first report is the warm-up, of the others tokens and time are added up."""
    told = [json.loads(line) for line in events.read_text().splitlines()]
    reports = [(seconds(line["at"]), line["data"]) for line in told if line["type"] == "progress"]
    took = [later - sooner for (sooner, _), (later, _) in pairwise(reports)]
    tokens = sum(data["tokens_per_second"] * t for (_, data), t in zip(reports[1:], took, strict=True))
    return Seen(started, reports[0][0], tokens / sum(took) if took else 0.0)


def environment(devices: str = "") -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TRAINYARD_", "HF_"))}
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": devices}
    # Threads wait awake for a moment only, on all sides: a busy machine would make the scripts far slower still.
    threads = {"OMP_NUM_THREADS": str(THREADS), "GOMP_SPINCOUNT": "2000"}
    return kept | quiet | threads | {"PYTHONPATH": str(ROOT)}


def _run(argv: list[str], environ: dict[str, str]) -> tuple[float, str]:
    """When it started and what it printed."""
    started = time.time()
    done = subprocess.run(
        argv, env=environ, capture_output=True, text=True, timeout=_RUN_SECONDS, check=False, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        raise RuntimeError(f"{argv[1:3]} ended with {done.returncode}: {done.stderr[-3000:]}")
    return started, done.stdout
