"""An autoencoder in the layout of latent diffusion's authors, as Flux's `ae.safetensors`, read into diffusers'."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainyard.trainer.tensors import Tensor

#: In a file that has more than the autoencoder.
_PREFIX = "first_stage_model."
#: Not told by the tensors; the same in all of them.
_GROUPS = 32
_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def config(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `AutoencoderKL` that fit the tensors; `told` is what they do not say. Raises `KeyError`."""
    own = _own(tensors)
    blocks = range(_blocks(own))
    return {
        "down_block_types": ("DownEncoderBlock2D",) * len(blocks),
        "up_block_types": ("UpDecoderBlock2D",) * len(blocks),
        "block_out_channels": tuple(own[f"encoder.down.{n}.block.0.conv1.weight"].shape[0] for n in blocks),
        "layers_per_block": len({name.split(".")[4] for name in own if name.startswith("encoder.down.0.block.")}),
        "latent_channels": own["decoder.conv_in.weight"].shape[1],
        "norm_num_groups": _GROUPS,
        "use_quant_conv": "quant_conv.weight" in own,
        "use_post_quant_conv": "post_quant_conv.weight" in own,
        **told,
    }


def renamed(name: str, tensor: torch.Tensor, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of the file as diffusers' one; none for what is no part of the autoencoder."""
    own = _own(tensors)
    short = name.removeprefix(_PREFIX)
    if short not in own:
        return
    module, _, last = short.rpartition(".")
    if found := re.fullmatch(r"(\w+)\.mid\.attn_1\.(\w+)", module):
        side, part = found.groups()
        # Products were written as convolutions over single places.
        yield f"{side}.mid_block.attentions.0.{_ATTENTION[part]}.{last}", tensor.reshape(tensor.shape[:2])
        return
    module = re.sub(r"\.mid\.block_(\d+)", lambda m: f".mid_block.resnets.{int(m[1]) - 1}", module)
    module = re.sub(r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets.", module)
    module = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", module)
    # Blocks of the decoder are counted from the picture's end.
    top = _blocks(own) - 1
    module = re.sub(r"\.up\.(\d+)\.block\.", lambda m: f".up_blocks.{top - int(m[1])}.resnets.", module)
    module = re.sub(r"\.up\.(\d+)\.upsample\.", lambda m: f".up_blocks.{top - int(m[1])}.upsamplers.0.", module)
    module = module.replace("nin_shortcut", "conv_shortcut")
    module = re.sub(r"\.norm_out$", ".conv_norm_out", module)
    yield f"{module}.{last}", tensor


def _own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(name.startswith(_PREFIX) for name in tensors):
        return {name.removeprefix(_PREFIX): t for name, t in tensors.items() if name.startswith(_PREFIX)}
    return {name: t for name, t in tensors.items() if name.startswith(("encoder.", "decoder.", "quant_", "post_"))}


def _blocks(own: Mapping[str, Any]) -> int:
    return len({name.split(".")[2] for name in own if name.startswith("encoder.down.")})
