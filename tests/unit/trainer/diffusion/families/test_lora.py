"""Adapters as they are written: the stock loader of each family reads them, and gives the same output."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, inject_adapter_in_model
from safetensors import safe_open

from trainyard.trainer.diffusion.families.family import Shown

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")


def trained(made, options, targets=None, **config):
    """The denoiser with an adapter that learned something."""
    denoiser = made.family.denoiser(made.weights, options, CPU)
    targets = list(targets or made.family.lora_targets["default"])
    config = LoraConfig(r=4, lora_alpha=6, target_modules=targets, init_lora_weights=True, **config)
    if hasattr(denoiser, "add_adapter"):
        denoiser.add_adapter(config)
    else:
        inject_adapter_in_model(config, denoiser)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in denoiser.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return denoiser


def said(made, options, denoiser):
    """What a denoiser says of some latents."""
    generator = torch.Generator().manual_seed(4)
    latents = torch.randn(1, 4, 8, 8, generator=generator)
    texts = made.family.stacked(made.family.texts(made.weights, options, CPU).encode(["a red star"]))
    sizes = torch.tensor([[64, 64, 0, 0, 64, 64]])
    with torch.no_grad():
        return made.family.predict(denoiser, Shown(latents, torch.tensor([500]), texts, sizes))


@pytest.mark.parametrize(("name", "more"), [("flux", {}), ("flux", {"use_dora": True}), ("sdxl", {})])
def test_the_stock_pipeline_loads_an_adapter_and_says_the_same(tiny, exact, tmp_path, name, more):
    made, options = tiny(name), exact(model_family=name)
    denoiser = trained(made, options, **more)

    made.family.save_lora(denoiser, tmp_path)

    stock = made.stock()
    stock.load_lora_weights(tmp_path)
    loaded = getattr(stock, made.family.part)
    plain = made.family.denoiser(made.weights, options, CPU)
    assert torch.equal(said(made, options, loaded), said(made, options, denoiser))
    assert not torch.allclose(said(made, options, plain), said(made, options, denoiser), atol=1e-3)


def test_alpha_is_in_the_file_beside_the_weights(tiny, exact, tmp_path):
    made = tiny("flux")
    made.family.save_lora(trained(made, exact()), tmp_path)

    with safe_open(tmp_path / "pytorch_lora_weights.safetensors", "pt") as file:
        told = json.loads(file.metadata()["lora_adapter_metadata"])
        names = list(file.keys())
    assert told["transformer.r"] == 4 and told["transformer.lora_alpha"] == 6
    assert all(name.startswith("transformer.") and ".lora_" in name for name in names)


def test_an_adapter_of_pixart_is_a_folder_that_peft_reads(tiny, exact, tmp_path):
    made, options = tiny("pixart_sigma"), exact(model_family="pixart_sigma")
    denoiser = trained(made, options)

    made.family.save_lora(denoiser, tmp_path / "adapter")

    stock = made.stock()
    loaded = PeftModel.from_pretrained(stock.transformer, tmp_path / "adapter")
    assert torch.equal(said(made, options, loaded.base_model.model), said(made, options, denoiser))
    plain = made.family.denoiser(made.weights, options, CPU)
    assert not torch.allclose(said(made, options, plain), said(made, options, denoiser), atol=1e-3)


@pytest.mark.parametrize("named", ["all", "mmdit", "context", "context+ffs", "all+ffs", "ai-toolkit"])
def test_every_named_set_of_flux_finds_modules_of_its_own(tiny, exact, named):
    made = tiny("flux")
    denoiser = trained(made, exact(), made.family.lora_targets[named])

    found = {name.split(".lora_A")[0] for name, _ in denoiser.named_parameters() if ".lora_A" in name}
    kinds = {name.split(".", 2)[2] for name in found if name.startswith("transformer_blocks.")}
    words = {kind for kind in kinds if "add_" in kind or "context" in kind}
    assert bool(words) == (named != "mmdit")
    assert bool(kinds - words) == (not named.startswith("context"))
    assert any(".ff" in name for name in found) == (named in ("context+ffs", "all+ffs", "ai-toolkit"))
    assert any("norm" in name for name in found) == (named == "ai-toolkit")


def test_the_smallest_sets_name_single_modules_of_the_real_flux(tiny):
    targets = tiny("flux").family.lora_targets

    assert targets["nano"] == ("single_transformer_blocks.7.proj_out",)
    assert set(targets["nano"]) < set(targets["tiny"]) and len(targets["tiny"]) == 4
    assert targets["default"] == targets["all"]
