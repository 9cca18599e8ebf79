"""A diffusion job trained in this process: no start-up, and its parts can be reached."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import trainyard
from tests.here import UID, Here

#: Small, exact and without chance beyond what a test asks for.
PLAIN: dict[str, Any] = {
    "model_type": "lora",
    "mixed_precision": "no",
    "vae_dtype": "fp32",
    "lora_rank": 4,
    "lora_dropout": 0.0,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "train_batch_size": 2,
    "max_train_steps": 4,
    "num_train_epochs": 0,
    "gradient_checkpointing": False,
    "resolution": 64,
    "resolution_type": "pixel",
    "aspect_bucket_alignment": 16,
    "disable_bucket_pruning": True,
    "caption_strategy": "textfile",
    "caption_dropout_probability": 0.0,
    "checkpoint_step_interval": 0,
    "disable_benchmark": True,
    "seed": 7,
}


class DiffusionHere(Here):
    """One job on the pictures of a folder; `options` are keys of `extra_parameters`."""

    engine = "trainyard.trainer.diffusion.engine"

    def __init__(self, folder: Path, model: Path, pictures: Path, **options: Any) -> None:
        super().__init__(folder, model)
        self.pictures, self.options = pictures, PLAIN | options
        #: Instead of one entry for the folder of pictures.
        self.entries: list[dict[str, Any]] | None = None
        self.cache = folder / "cache"
        #: More of the document's `base_model`.
        self.base: dict[str, Any] = {}
        #: What the service would have said besides: `options` of `spec.json`.
        self.more: dict[str, Any] = {}
        #: Folders of Python's path before ours, for a process of its own.
        self.paths: list[str] = []

    def spec(self) -> dict[str, Any]:
        """What the service writes for an attempt."""
        entries = self.entries or [{"id": "pictures", "instance_data_dir": str(self.pictures)}]
        request = {
            "base_model": {"provider": "custom", "model_name": str(self.model), **self.base},
            "tuning_parameters": {"logging_steps": 1},
            "extra_parameters": {"engine": "diffusion", "data_backend_config": entries, **self.options},
        }
        return {
            "format": 1,
            "uid": UID,
            "job_id": "job-1",
            "engine": "diffusion",
            "request": request,
            "output": str(self.output),
            "devices": [],
            "threads": 1,
            "changes": self.changes,
            "options": {"cache_dir": str(self.cache), **self.more},
        }

    def start(self) -> "subprocess.Popen[bytes]":
        """A new attempt, begun as the guard does."""
        pair, own = self.attempt()
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder.path),
            "PYTHONPATH": os.pathsep.join([*self.paths, str(Path(trainyard.__file__).parents[1])]),
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "TRAINYARD_RUN": f"{UID}.{pair}",
            "TRAINYARD_ATTEMPT_DIR": str(own),
        }
        argv = [sys.executable, "-P", "-m", "trainyard.trainer", str(self.folder.path)]
        with (self.folder.path / "train.log").open("ab") as log:
            return subprocess.Popen(argv, env=environ, stdout=log, stderr=log, cwd=self.folder.path)

    def wait(self, child: "subprocess.Popen[bytes]", kind: str, step: int) -> None:
        """Until an event of this kind is told of this step or a later one."""
        until = time.monotonic() + 120
        while not any(data["step"] >= step for data in self.events(kind)):
            assert child.poll() is None, f"the run ended with {child.returncode}: {self.log[-2000:]}"
            assert time.monotonic() < until, f"no {kind} was told"
            time.sleep(0.02)

    @property
    def log(self) -> str:
        return (self.folder.path / "train.log").read_text()
