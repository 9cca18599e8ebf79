"""From JSON to trained image models of each family, through the real service, guard and trainer."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from tests.pictures import draw, photographs
from tests.tiny_diffusion import shared_tiny
from trainyard.guard import processes_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def drawing(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    """A document that trains a tiny image model on the CPU; keywords are options."""
    pictures = draw(tmp_path / "pictures", count=48)
    photographs(pictures / "photographs")

    def make(job_id: str, family: str, **options: Any) -> dict[str, Any]:
        usual = {
            "engine": "diffusion",
            "caption_strategy": "textfile",
            "resolution": 64,
            "resolution_type": "pixel",
            "aspect_bucket_alignment": 16,
            "train_batch_size": 2,
            "vae_dtype": "fp32",
            "disable_benchmark": True,
        }
        return {
            "job_id": job_id,
            "base_model": {"provider": "custom", "model_name": str(shared_tiny(family, tmp_path_factory))},
            "customization": {"method": "lora", "rank": 4, "precision": "fp32"},
            "resources": {"gpus": 0, "cpus": 1, "memory_gb": 2},
            "datasets": [{"source": str(pictures), "format": "imagefolder"}],
            "artifacts": {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "results")},
            "tuning_parameters": {"max_steps": 6, "learning_rate": 1e-3, "save_steps": 3, "logging_steps": 1},
            "extra_parameters": usual | options,
        }

    return make


def keys(path: Path) -> list[str]:
    with safe_open(path, framework="np") as file:
        return list(file.keys())


@pytest.mark.parametrize(("family", "precision"), [("flux", "bf16"), ("pixart_sigma", "fp32"), ("sdxl", "fp32")])
def test_a_document_becomes_an_adapter_of_each_family(server, drawing, tmp_path, family, precision):
    server.start()
    document = drawing("a", family, validation_prompt="a red circle", validation_num_inference_steps=2)
    document["customization"]["precision"] = precision
    server.post(document)
    job = server.wait_end("a", seconds=600)
    events = server.events("a")
    assert job["status"] == "succeeded", events[-1]
    progress = [e["data"] for e in events if e["type"] == "job.progress"]
    assert [data["step"] for data in progress] == [1, 2, 3, 4, 5, 6]
    assert all(data["samples_per_second"] > 0 and data["total_steps"] == 6 for data in progress)
    assert [c["step"] for c in server.get("/train/a/checkpoints")["checkpoints"]] == [3, 6]
    output = tmp_path / "results" / "a"
    final = output / "final"
    assert Path(events[-1]["data"]["final_uri"]) == final
    name = "adapter_model.safetensors" if family == "pixart_sigma" else "pytorch_lora_weights.safetensors"
    assert any("lora" in key.lower() for key in keys(final / name))
    manifest = json.loads((output / "manifest.json").read_text())
    assert (manifest["base"]["family"], manifest["step"]) == (family, 6)
    assert manifest["datasets"][0]["pictures"] > 48, "drawn ones and photographs"
    assert sum(e["type"] == "job.validation" for e in events) >= 1
    assert (final / "validation.png").is_file()


def test_a_killed_trainer_is_tried_again_and_goes_on(server, drawing, slowly):
    slowly("a")
    server.start()
    document = drawing("a", "flux", max_retries=1)
    document["tuning_parameters"] |= {"max_steps": 40, "save_steps": 5}
    server.post(document)
    server.wait_for("a", "running")
    while not server.get("/train/a/checkpoints")["checkpoints"]:
        server.wait_for("a", "running")
        time.sleep(0.1)
    (guard,) = [int(json.loads(p.read_text())["pid"]) for p in (server.data_dir / "jobs" / "a").rglob("owner.json")]
    uid = server.get("/train/a")["uid"]
    trainer = next(pid for pid in processes_of(f"{uid}.1.0") if pid != guard)
    os.kill(trainer, signal.SIGKILL)
    assert server.wait_end("a", seconds=600)["status"] == "succeeded"
    steps = [e["data"]["step"] for e in server.events("a") if e["type"] == "job.progress"]
    assert steps[-1] == 40 and set(steps) == set(range(1, 41))
    assert any("goes on from step" in e["message"] for e in server.events("a"))
