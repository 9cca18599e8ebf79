"""The work that image trainers are compared by: a model, pictures with captions, so many steps; ours as guarded.

The models are small and of the real families' kinds, and so is the VAE: it costs about the share of a step that it
costs beside PixArt Sigma at 1024 pixels.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import asdict, frozen

from benchmarks.processes import ROOT
from benchmarks.training_work import THREADS, environment
from common.clock import seconds
from common.folder import FORMAT

_UID = "be" * 16
_RUN_SECONDS = 1_800.0
#: What an adapter is put on, on both sides.
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


@frozen(kw_only=True)
class Size:
    """The model and the steps."""

    width: int = 512
    layers: int = 4
    #: Pixels of a square picture's edge.
    edge: int = 256
    batch: int = 2
    #: Tokens of a prompt.
    words: int = 64
    #: Channels of the VAE's blocks.
    vae: tuple[int, ...] = (16, 32, 64, 64)
    pictures: int = 32
    rank: int = 16
    rate: float = 1e-4
    #: Steps before the clock starts; as many steps make one report.
    warm: int = 4
    steps: int = 16


@frozen
class Work:
    """A folder with the model, the pictures and what both sides keep of them."""

    folder: Path
    size: Size
    #: `flux` (a LoRA) or `pixart_sigma` (a full fine-tune).
    family: str

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def prepared(self) -> Path:
        """Embeddings and latents for the script."""
        return self.folder / "prepared.pt"

    @property
    def cache(self) -> Path:
        """Ours."""
        return self.folder / "cache"

    @property
    def lora(self) -> bool:
        return self.family == "flux"

    def options(self) -> dict[str, Any]:
        """Of our job."""
        size = self.size
        return {
            "model_family": self.family,
            "model_type": "lora" if self.lora else "full",
            "mixed_precision": "no",
            "vae_dtype": "fp32",
            "lora_rank": size.rank,
            "lora_dropout": 0.0,
            "peft_lora_target_modules": list(TARGETS),
            "optimizer": "torch-adamw",
            "learning_rate": size.rate,
            "max_grad_norm": 1.0,
            "grad_clip_method": "norm",
            "train_batch_size": size.batch,
            "max_train_steps": size.steps,
            "num_train_epochs": 0,
            "logging_steps": size.warm,
            "gradient_checkpointing": False,
            "resolution": size.edge,
            "resolution_type": "pixel",
            "aspect_bucket_alignment": 16,
            "caption_strategy": "textfile",
            "caption_dropout_probability": 0.0,
            "tokenizer_max_length": size.words,
            "checkpoint_step_interval": 0,
            "disable_benchmark": True,
            "report_to": "none",
            "seed": 42,
        }


@frozen
class Seen:
    """What one run showed."""

    samples_per_second: float
    #: The most memory that the process held, or on a GPU the most that it held there.
    peak_bytes: int
    #: Seconds that the loop stood waiting for its data, and all seconds of its steps.
    waited: float = 0.0
    trained: float = 0.0


@contextmanager
def made(family: str, size: Size) -> Iterator[Work]:
    """Model and pictures."""
    from benchmarks.diffusion_models import make_model
    from tests.pictures import draw

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        work = Work(Path(name), size, family)
        make_model(family, size, work.model)
        draw(work.pictures, size.pictures, edge=size.edge, ratios=(1.0,))
        yield work


@contextmanager
def working(family: str, size: Size) -> Iterator[Work]:
    """Model and pictures, and both sides have computed what they keep."""
    with made(family, size) as work:
        by_peer(work, "prepare")
        by_us(work, {"max_train_steps": 1})
        yield work


def by_peer(work: Work, latents: str, more: Mapping[str, Any] | None = None, script: str = "diffusion_loop") -> Seen:
    """A plain script of `benchmarks/peers`; its latents are `cached`, or `encoded` in its loop."""
    order = asdict(work.size) | {"family": work.family, "model": str(work.model), "pictures": str(work.pictures)}
    order |= {"prepared": str(work.prepared), "latents": latents, "targets": TARGETS, **(more or {})}
    argv = [sys.executable, str(ROOT / "benchmarks" / "peers" / f"{script}.py"), json.dumps(order)]
    output, resident = _run(argv, environment((more or {}).get("device", "")))
    found = json.loads(output.splitlines()[-1])
    return Seen(found["samples_per_second"], found["peak_bytes"] or resident)


def by_us(work: Work, options: Mapping[str, Any] | None = None, devices: tuple[str, ...] = ()) -> Seen:
    """Our trainer over a job folder, started as the guard starts it, on the caches that the first run filled."""
    with tempfile.TemporaryDirectory(dir=work.folder) as own:
        job, attempt = Path(own) / "job", Path(own) / "job" / "attempts" / "1.0"
        attempt.mkdir(parents=True)
        (job / "attempt").write_text("1.0\n")
        entries = [{"id": "pictures", "instance_data_dir": str(work.pictures)}]
        request = {
            "base_model": {"provider": "custom", "model_name": str(work.model)},
            "extra_parameters": {
                "engine": "diffusion",
                "data_backend_config": entries,
                **work.options(),
                **(options or {}),
            },
        }
        spec = {
            "format": FORMAT,
            "uid": _UID,
            "job_id": "diffusion",
            "engine": "diffusion",
            "request": request,
            "options": {"cache_dir": str(work.cache)},
            "output": str(Path(own) / "out"),
            "log": own,
            "devices": list(devices),
            "threads": THREADS,
        }
        (job / "spec.json").write_text(json.dumps(spec))
        named = {"TRAINYARD_RUN": f"{_UID}.1.0", "TRAINYARD_ATTEMPT_DIR": str(attempt)}
        argv = [sys.executable, "-P", "-m", "trainyard.trainer", str(job)]
        _, resident = _run(argv, environment(",".join(devices)) | named)
        manifest = json.loads((Path(own) / "out" / "manifest.json").read_text())
        return _seen(attempt / "events.jsonl", manifest, resident)


def _seen(events: Path, manifest: Mapping[str, Any], resident: int) -> Seen:
    """From what the trainer told: the first report is the warm-up, of the others samples and time are added up."""
    told = [json.loads(line) for line in events.read_text().splitlines()]
    reports = [(seconds(line["at"]), line["data"]) for line in told if line["type"] == "progress"]
    began = min(seconds(line["at"]) for line in told if line["type"] == "phase" and line["data"]["phase"] == "training")
    took = [later - sooner for (sooner, _), (later, _) in pairwise(reports)]
    samples = sum(data["samples_per_second"] * t for (_, data), t in zip(reports[1:], took, strict=True))
    return Seen(
        samples / sum(took) if took else 0.0,
        manifest.get("peak_bytes") or resident,
        manifest["loader_waited_seconds"],
        reports[-1][0] - began,
    )


def _run(argv: list[str], environ: Mapping[str, str]) -> tuple[str, int]:
    """What it printed, and the most memory that it held resident."""
    with tempfile.TemporaryDirectory(prefix="bench-run-") as name:
        output, errors = Path(name) / "output", Path(name) / "errors"
        with output.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(argv, env=dict(environ), stdout=out, stderr=err, cwd=name)
            until = time.monotonic() + _RUN_SECONDS
            while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
                if time.monotonic() > until:
                    process.kill()
                time.sleep(0.05)
        process.returncode = os.waitstatus_to_exitcode(ended[1])
        if process.returncode:
            told = errors.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{argv[1:4]} ended with {process.returncode}: {told}")
        return output.read_text(), ended[2].ru_maxrss * 1024


def forget(work: Work) -> None:
    """Our caches are empty again."""
    shutil.rmtree(work.cache / "diffusion", ignore_errors=True)
