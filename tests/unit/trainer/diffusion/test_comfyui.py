"""An adapter under the names of Flux's own files: what diffusers makes of them is the adapter that was written."""

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from safetensors.torch import load_file, save_file

from schemas.diffusion import Options
from trainyard.trainer.diffusion.comfyui import FILE, name_as_asked, renamed

#: The widths that diffusers expects in a single block; elsewhere any will do.
WIDE, FEED_FORWARD = 3072, 12288


def pair(name: str, into: int, out: int, rank: int = 2) -> dict[str, torch.Tensor]:
    made = torch.Generator().manual_seed(sum(map(ord, name)))
    return {
        f"transformer.{name}.lora_A.weight": torch.randn(rank, into, generator=made),
        f"transformer.{name}.lora_B.weight": torch.randn(out, rank, generator=made),
    }


def blank(name: str) -> dict[str, torch.Tensor]:
    return {
        f"transformer.{name}.lora_A.weight": torch.empty(2, 8),
        f"transformer.{name}.lora_B.weight": torch.empty(8, 2),
    }


def whole(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]


def test_every_module_comes_back_from_diffusers_own_loader(tmp_path):
    double, single = "transformer_blocks.3", "single_transformer_blocks.12"
    names = [f"{double}.attn.{each}" for each in ("to_q", "to_k", "to_v", "add_q_proj", "add_v_proj", "to_out.0")]
    names += [f"{double}.{each}" for each in ("ff.net.0.proj", "ff.net.2", "ff_context.net.2", "norm1.linear")]
    given = {key: tensor for name in names for key, tensor in pair(name, 12, 12).items()}
    for name in ("attn.to_q", "attn.to_v"):
        given |= pair(f"{single}.{name}", 8, WIDE)
    given |= pair(f"{single}.proj_out", 8, 8) | pair(f"{single}.norm.linear", 8, 24)
    save_file(given, tmp_path / FILE, metadata={"lora_adapter_metadata": "{}"})
    name_as_asked(tmp_path, Options(model_type="lora", lora_rank=2, lora_alpha=8, lora_format="comfyui"))
    written = load_file(tmp_path / FILE)
    assert all(key.startswith("diffusion_model.") for key in written)
    assert written["diffusion_model.single_blocks.12.linear1.lora_up.weight"].shape == (3 * WIDE + FEED_FORWARD, 8)
    found = FluxPipeline.lora_state_dict(tmp_path)
    modules = [key.removesuffix(".lora_A.weight") for key in given if key.endswith(".lora_A.weight")]
    for name in modules:
        torch.testing.assert_close(whole(found, name), whole(given, name) * 8 / 2)
    more = {key.removesuffix(".lora_A.weight") for key in found if key.endswith(".lora_A.weight")} - set(modules)
    assert more and all(not whole(found, name).any() for name in more), "parts without an adapter change nothing"


def test_the_last_layer_is_written_with_shift_before_scale():
    given = pair("norm_out.linear", 4, 8) | pair("proj_out", 4, 6)
    found = renamed(given, 2.0)
    up = given["transformer.norm_out.linear.lora_B.weight"]
    assert torch.equal(found["diffusion_model.final_layer.adaLN_modulation.1.lora_up.weight"], up.roll(4, 0))
    assert found["diffusion_model.final_layer.linear.alpha"] == 2


def test_every_linear_module_of_the_stock_class_has_a_name():
    with torch.device("meta"):
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, num_attention_heads=2, guidance_embeds=True)
        names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
        given = {key: tensor for name in names for key, tensor in blank(name).items()}
        found = renamed(given, 1.0)
    assert len(names) > 25 and "diffusion_model.single_blocks.0.linear2.alpha" in found
    with pytest.raises(ValueError, match=r"transformer_blocks\.0\.elsewhere has no name"):
        renamed(pair("transformer_blocks.0.elsewhere", 4, 4), 1.0)


def test_the_usual_names_stay(tmp_path):
    save_file(pair("transformer_blocks.0.attn.to_q", 4, 4), tmp_path / FILE)
    before = (tmp_path / FILE).read_bytes()
    name_as_asked(tmp_path, Options(model_type="lora"))
    assert (tmp_path / FILE).read_bytes() == before
