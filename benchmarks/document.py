"""The document that the benchmarks post: the usage guide's, to be played by the simulated backend."""

import json
from typing import Any, Final

#: Stands where a job's own id goes; every id has its length, so that a request is made by putting bytes together.
PLACE: Final = "bench-0000000000"

GUIDE: Final[dict[str, Any]] = {
    "job_id": PLACE,
    "base_model": {
        "provider": "huggingface",
        "model_name": "meta-llama/Llama-2-7b",
        "revision": "main",
        "auth_token": "hf_xxx",
        "huggingface_token": "hf_launchpad_token",
        "weights_url": None,
    },
    "customization": {
        "method": "lora",
        "rank": 16,
        "target_modules": ["q_proj", "v_proj"],
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "trainable_layers": ["decoder.layers.0"],
        "precision": "bf16",
        "qlora": {"use_double_quant": True, "bnb_4bit_compute_dtype": "bfloat16"},
        "peft": {"use": True, "config": {"task_type": "CAUSAL_LM"}},
    },
    "resources": {"gpus": 4, "gpu_type": "A100", "cpus": 16, "memory_gb": 128, "max_duration_minutes": 720},
    "datasets": [
        {
            "source": "s3://training-data-123456/users/e468b458-c061-70ca-966f-bb439ffde5e3/projects/"
            "6925ccd958905b1e58631d2c/ingestion/1764106730023-tx_aml_dataset.jsonl",
            "format": "jsonl",
            "auth": {"role_arn": "arn:aws:iam::123:role/FineTune"},
        }
    ],
    "artifacts": {
        "log_uri": "s3://training-data-123456/users/e468b458-c061-70ca-966f-bb439ffde5e3/projects/"
        "6925ccd958905b1e58631d2c/logs/job-id/",
        "status_stream_url": "https://events.internal/job-id",
        "output_uri": "s3://training-data-123456/users/e468b458-c061-70ca-966f-bb439ffde5e3/projects/"
        "6925ccd958905b1e58631d2c/results/",
    },
    "tuning_parameters": {
        "learning_rate": 2e-4,
        "batch_size": 64,
        "num_epochs": 3,
        "warmup_ratio": 0.1,
        "gradient_checkpointing": True,
        "max_sequence_length": 4096,
    },
    "callbacks": {"webhook_url": "https://webhook.internal/train-status", "auth_header": "Bearer mytoken"},
}

#: Some 0.6 KB; defaults take the place of the rest, and nobody is called back.
SHORT: Final[dict[str, Any]] = {
    "job_id": PLACE,
    "base_model": {"provider": "huggingface", "model_name": "meta-llama/Llama-2-7b"},
    "datasets": [
        {"source": "s3://training-data-123456/projects/6925ccd958905b1e58631d2c/rows.jsonl", "format": "jsonl"}
    ],
    "artifacts": {
        "log_uri": "s3://training-data-123456/projects/6925ccd958905b1e58631d2c/logs/",
        "output_uri": "s3://training-data-123456/projects/6925ccd958905b1e58631d2c/results/",
    },
    "tuning_parameters": {"learning_rate": 2e-4, "batch_size": 64, "num_epochs": 3},
}

DEVICES: Final = GUIDE["resources"]["gpus"]


def job_id(n: int) -> str:
    """The n-th id."""
    return f"bench-{n:010d}"


def played(
    document: dict[str, Any] = GUIDE,
    *,
    seconds: float = 1.0,
    steps: int = 10,
    hooks: bool = False,
    devices: bool = True,
) -> dict[str, Any]:
    """A document for the simulated backend; without `hooks` nobody is called back."""
    found: dict[str, Any] = json.loads(json.dumps(document))
    found["backend"] = "simulated"
    found["extra_parameters"] = {"duration_seconds": seconds, "steps": steps, "devices": devices}
    if not hooks:
        found.pop("callbacks", None)
        found["artifacts"].pop("status_stream_url", None)
    return found


def cut_at_id(document: dict[str, Any]) -> tuple[bytes, bytes]:
    """The document as bytes, before and behind its id."""
    before, _, behind = json.dumps(document).encode().partition(PLACE.encode())
    return before, behind
