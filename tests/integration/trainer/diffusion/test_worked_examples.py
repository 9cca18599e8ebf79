"""The tutorial's two examples as they stand in docs/DIFFUSION.md, trained on tiny models; only sizes are smaller."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from backends.engines.machine import Machine
from backends.engines.spec import build
from common.devices import Device
from common.settings import Settings
from schemas.converter import structure
from schemas.diffusion.document import filled, prepared
from schemas.train import TrainRequest
from tests.diffusion_here import DiffusionHere
from tests.tiny_diffusion import shared_tiny

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # stock schedulers and numpy
]
PAGE = Path(__file__).resolve().parents[4] / "docs" / "DIFFUSION.md"
EXAMPLES = {
    example["job_id"]: example
    for example in map(json.loads, re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL))
}
MACHINE = Machine(cpus=16, memory_gib=128, devices=(Device("0", "NVIDIA H100 80GB HBM3"),))
PROMPT = "a red circle on a striped background"
#: Learning rates too: what three steps do must be seen in a picture of 64 pixels.
SMALLER = {
    "--max_train_steps": 3,
    "--lr_warmup_steps": 1,
    "--learning_rate": 0.01,
    "--validation_prompt": PROMPT,
    "--validation_resolution": "64x64",
    "--validation_num_inference_steps": 2,
}


def small(job_id: str, model: Path, folder: Path, places: dict[str, Path], sizes: dict[str, Any]) -> dict[str, Any]:
    """The example's request as a run is given it, with data and model of this machine."""
    text = json.dumps(EXAMPLES[job_id])
    for place, here in places.items():
        assert place in text
        text = text.replace(f'"{place}"', json.dumps(str(here)))
    document = json.loads(text.replace('"/data/', f'"{folder}/data/').replace('"/results/', f'"{folder}/results/'))
    document["base_model"]["model_name"] = str(model)
    extra = document["extra_parameters"]
    extra |= {name: value for name, value in SMALLER.items() if name in extra}
    for entry in extra["--data_backend_config"]:
        entry |= {name: value for name, value in sizes.items() if name in entry}
    read = structure(filled(prepared(document, folder)).document, TrainRequest)
    assert read.value is not None, read.errors
    return dict(build(read.value, MACHINE, Settings()).request)


class Example(DiffusionHere):
    """A run of a request that is whole already."""

    def __init__(self, folder: Path, model: Path, request: dict[str, Any]) -> None:
        super().__init__(folder, model, folder)
        self.request = request

    def spec(self) -> dict[str, Any]:
        return super().spec() | {"request": self.request}


@pytest.fixture
def example(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Example]:
    def made(job_id: str, family: str, places: dict[str, Path], sizes: dict[str, Any], **shape: Any) -> Example:
        model = shared_tiny(family, tmp_path_factory, **shape)
        return Example(tmp_path / "job", model, small(job_id, model, tmp_path, places, sizes))

    return made


def stock(folder: Path, dtype: torch.dtype) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: Any, seed: int, **more: Any) -> np.ndarray:
    chance = torch.Generator().manual_seed(seed)
    made = pipeline(prompt=PROMPT, height=64, width=64, num_inference_steps=2, generator=chance, **more)
    return np.asarray(made.images[0]).astype(int)


def picture(here: Example) -> np.ndarray:
    """What the run drew at its end."""
    files = sorted((here.output / "validation" / "step-3").glob("*.png"))
    return np.asarray(Image.open(next(f for f in files if f.name != "grid.png"))).astype(int)


def test_pixart_sigma_whole_in_bf16(example, pictures):
    sizes = {"resolution": 0.0041, "minimum_image_size": 0.001, "maximum_image_size": 0.0041}
    here = example(
        "pixart-900m",
        "pixart_sigma",
        {"/data/datasets/pseudo-camera-10k": pictures},
        sizes | {"target_downsample_size": 0.0041},
    )
    assert here.train().step == 3
    assert here.manifest["parameters"]["trained"] == here.manifest["parameters"]["all"] > 0
    assert [data["epoch"] for data in here.events("progress")] == [1.0], "two pictures, twice a step, of twelve"
    more = {"guidance_scale": 3.8, "use_resolution_binning": False, "negative_prompt": ""}
    found, before = (drawn(stock(at, torch.bfloat16), 12345, **more) for at in (here.output / "final", here.model))
    assert np.abs(found - before).max() > 3
    drew = picture(here)
    assert np.abs(found - drew).mean() < np.abs(before - drew).mean() / 3, "the stock pipeline draws what the run drew"


def test_kontext_lycoris_on_an_int8_base(example, pairs):
    from lycoris import create_lycoris_from_weights

    after, before = pairs
    here = example(
        "kontext",
        "flux",
        {"/data/datasets/kontext/edit": after, "/data/datasets/kontext/reference": before},
        {"resolution": 64, "minimum_image_size": 48, "maximum_image_size": 96, "target_downsample_size": 64},
        flavour="kontext",
    )
    assert here.train().step == 3
    pipeline = stock(here.model, torch.float32)
    with Image.open(min(before.glob("*.png"))) as reference:
        more = {"guidance_scale": 2.5, "image": reference.resize((64, 64)), "_auto_resize": False}
        untrained = drawn(pipeline, 777, **more)
        file = here.output / "final" / "pytorch_lora_weights.safetensors"
        network, _ = create_lycoris_from_weights(1.0, str(file), pipeline.transformer)
        assert "lokr" in type(network.loras[0]).__name__.lower(), "the default, as no lycoris_config is given"
        network.apply_to()
        assert np.abs(drawn(pipeline, 777, **more) - untrained).max() > 3
    assert picture(here).shape == (64, 64, 3)
