"""One run of each family: what it leaves is loaded by the stock loader, and makes the picture of the end of the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # stock schedulers and numpy
]

PROMPT, STEPS, SEED = "a red circle on a striped background", 2, 11
SHOWN = {
    "validation_prompt": PROMPT,
    "validation_negative_prompt": "",
    "validation_num_inference_steps": STEPS,
    "validation_resolution": "64x64",
    "validation_guidance": 3.0,
    "validation_seed": SEED,
    "validation_step_interval": 1000,
    "learning_rate": 3e-2,
    "max_train_steps": 3,
}


def shown(job: Any) -> np.ndarray:
    """The picture that the run made at its end."""
    files = sorted((job.output / "validation" / "step-3").glob("*.png"))
    return np.asarray(Image.open(next(f for f in files if f.name != "grid.png"))).astype(int)


def stock(folder: Path) -> Any:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def drawn(pipeline: Any, **more: Any) -> np.ndarray:
    made = pipeline(
        PROMPT,
        height=64,
        width=64,
        num_inference_steps=STEPS,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(SEED),
        **more,
    )
    return np.asarray(made.images[0]).astype(int)


def check(job: Any, with_result: Callable[[Any, Path], Any], **more: Any) -> None:
    """The stock pipeline with the result makes the run's picture; without it, another."""
    expected = shown(job)
    before = drawn(stock(job.model), **more)
    pipeline = stock(job.model)
    pipeline = with_result(pipeline, job.output / "final") or pipeline
    found = drawn(pipeline, **more)
    assert np.abs(found - expected).max() <= 1
    assert np.abs(before - expected).max() > 3


def lora(pipeline: Any, final: Path) -> None:
    pipeline.load_lora_weights(final)


def lycoris(pipeline: Any, final: Path) -> None:
    from lycoris import create_lycoris_from_weights

    card = (final / "README.md").read_text()
    strength = float(card.partition("create_lycoris_from_weights(")[2].partition(",")[0])
    file = str(final / "pytorch_lora_weights.safetensors")
    network, _ = create_lycoris_from_weights(strength, file, pipeline.transformer)
    network.apply_to()
    network.eval()


def peft(pipeline: Any, final: Path) -> None:
    from peft import PeftModel

    pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, final)


def whole(pipeline: Any, final: Path) -> Any:
    return stock(final)


def test_flux_lora(job):
    here = job("flux", **SHOWN)
    result = here.train()
    assert (result.step, result.final_uri) == (3, str(here.output / "final"))
    check(here, lora, max_sequence_length=512)
    card = (here.output / "final" / "README.md").read_text()
    assert "![pictures of the last validation](validation.png)" in card and "LoRA adapter (rank 4, alpha 4" in card
    with Image.open(here.output / "final" / "validation.png") as grid:
        assert grid.size == (64, 64)


def test_flux_lora_under_the_names_of_flux_own_files(job):
    # of single blocks diffusers takes such names for the widths of the large model alone
    modules = [f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_v", "add_k_proj", "to_out.0")]
    here = job("flux", lora_format="comfyui", peft_lora_target_modules=modules, lora_alpha=8, **SHOWN)
    here.train()
    check(here, lora, max_sequence_length=512)
    names = {name.split(".")[0] for name in load_file(here.output / "final" / "pytorch_lora_weights.safetensors")}
    assert names == {"diffusion_model"}
    kept = load_file(here.output / "checkpoints" / "step-3" / "pytorch_lora_weights.safetensors")
    assert {name.split(".")[0] for name in kept} == names


def test_sdxl_lora(job):
    here = job("sdxl", inference_scheduler_timestep_spacing="leading", **SHOWN)
    here.train()
    check(here, lora, negative_prompt="")


def test_pixart_sigma_as_a_whole(job):
    here = job("pixart_sigma", model_type="full", **SHOWN)
    here.train()
    check(here, whole, negative_prompt="", use_resolution_binning=False)
    manifest = here.manifest
    assert manifest["parameters"]["trained"] == manifest["parameters"]["all"] > 0
    assert [d["pictures"] for d in manifest["datasets"]] == [12]


def test_pixart_sigma_lora_is_a_peft_folder(job):
    here = job("pixart_sigma", **SHOWN)
    here.train()
    check(here, peft, negative_prompt="", use_resolution_binning=False)


@pytest.mark.parametrize(("algo", "multiplier"), [("lokr", 1.0), ("loha", 1.0), ("locon", 0.5)])
def test_flux_lycoris(job, algo, multiplier):
    config = {"algo": algo, "linear_dim": 4, "linear_alpha": 2, "apply_preset": {"target_module": ["Attention"]}}
    config["multiplier"] = multiplier
    config |= {"factor": 4} if algo == "lokr" else {}
    here = job("flux", lora_type="lycoris", lycoris_config=config, **SHOWN)
    for name in ("lora_rank", "lora_dropout"):
        here.options.pop(name)
    here.train()
    check(here, lycoris, max_sequence_length=512)
    written = json.loads((here.output / "final" / "lycoris_config.json").read_text())
    assert (written["algo"], written["linear_dim"]) == (algo, 4)


def test_kontext_learns_from_pairs(job, pairs):
    after, before = pairs

    def trained(folder: str, shown: Path) -> Any:
        here = job("flux", folder, shape={"flavour": "kontext"}, **SHOWN)
        here.entries = [
            {"id": "after", "instance_data_dir": str(after), "conditioning_data": ["before"]},
            {
                "id": "before",
                "dataset_type": "conditioning",
                "conditioning_type": "reference_strict",
                "instance_data_dir": str(shown),
            },
        ]
        here.train()
        return here

    grey, same = trained("grey", before), trained("same", after)
    assert [d["id"] for d in grey.manifest["datasets"]] == ["after"]
    assert grey.losses().keys() == {1, 2, 3}
    assert all(grey.losses()[step] != same.losses()[step] for step in (1, 2, 3)), "what is shown makes a difference"
    assert (grey.output / "final" / "pytorch_lora_weights.safetensors").is_file()
