"""The two documents that the demo posts: a whole small model first, then an adapter on top of it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import corpus
from attrs import frozen
from receiver import Receiver

Document = dict[str, Any]
_MOST_CPUS = 4


@frozen
class Plan:
    """How long the two jobs train."""

    handbook_steps: int
    instruct_steps: int


FULL = Plan(handbook_steps=840, instruct_steps=80)
QUICK = Plan(handbook_steps=30, instruct_steps=16)


@frozen
class Place:
    """Where this run of the demo keeps its things, and by what name it is known."""

    folder: Path
    stamp: str
    plan: Plan

    @property
    def label(self) -> str:
        """What the jobs of this run have in common, as lists are filtered by it."""
        return f"demo={self.stamp}"

    def handbook(self, model: Path, rows: Path, receiver: Receiver) -> Document:
        """`full` training of a model with random weights on plain text."""
        steps = self.plan.handbook_steps
        tuning = {
            "learning_rate": 1.5e-3,
            "batch_size": 8,
            "max_steps": steps,
            "save_steps": steps // 2,
            "weight_decay": 0.1,
        }
        return self._document("handbook", model, rows, {"method": "full"}, tuning, receiver)

    def instruct(self, model: Path, receiver: Receiver) -> Document:
        """`lora` on top of the first job's model, on questions with short answers."""
        steps = self.plan.instruct_steps
        custom = {"method": "lora", "rank": 16, "lora_alpha": 32, "lora_dropout": 0.05}
        tuning = {"learning_rate": 1e-3, "batch_size": 16, "max_steps": steps, "save_steps": steps // 2}
        return self._document("instruct", model, corpus.INSTRUCTIONS, custom, tuning, receiver)

    def _document(
        self,
        name: str,
        model: Path,
        rows: Path,
        custom: Mapping[str, object],
        tuning: Mapping[str, object],
        receiver: Receiver,
    ) -> Document:
        project = self.folder / "project"
        common: dict[str, object] = {
            "warmup_ratio": 0.05,
            "lr_scheduler": "cosine",
            "logging_steps": 5,
            "save_total_limit": 1,
            "eval_ratio": 0.05,
        }
        return {
            "job_id": f"demo-{name}-{self.stamp}",
            "base_model": {"provider": "custom", "model_name": str(model)},
            "customization": {"precision": "fp32", **custom},
            "resources": {"gpus": 0, "cpus": cpus(), "memory_gb": 1, "max_duration_minutes": 30},
            "datasets": [{"source": str(rows), "format": "jsonl"}],
            "artifacts": {"log_uri": str(project / "logs"), "output_uri": str(project / "results")},
            "tuning_parameters": {**common, **tuning},
            "callbacks": {"webhook_url": receiver.url, "auth_header": receiver.auth_header},
            "labels": {"demo": self.stamp},
        }


def cpus() -> int:
    """How many cores the jobs ask for: a model as small as this gains nothing from more than a few."""
    return min(len(os.sched_getaffinity(0)), _MOST_CPUS)
