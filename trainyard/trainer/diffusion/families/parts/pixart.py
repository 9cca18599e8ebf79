"""PixArt's transformer out of a single file: in the layout of its authors' files, or as diffusers names its tensors.

Fused matrices are cut apart; all widths are taken from the tensors.
"""

from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

import torch

from trainyard.trainer.tensors import Tensor

#: Not told by the tensors: numbers of a head, and latents to a side for which places are counted in ones.
_HEAD, _SIDE = 72, 64
_TOP = {
    "x_embedder.proj": "pos_embed.proj",
    "y_embedder.y_proj.fc1": "caption_projection.linear_1",
    "y_embedder.y_proj.fc2": "caption_projection.linear_2",
    "t_embedder.mlp.0": "adaln_single.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "adaln_single.emb.timestep_embedder.linear_2",
    "csize_embedder.mlp.0": "adaln_single.emb.resolution_embedder.linear_1",
    "csize_embedder.mlp.2": "adaln_single.emb.resolution_embedder.linear_2",
    "ar_embedder.mlp.0": "adaln_single.emb.aspect_ratio_embedder.linear_1",
    "ar_embedder.mlp.2": "adaln_single.emb.aspect_ratio_embedder.linear_2",
    "t_block.1": "adaln_single.linear",
    "final_layer.linear": "proj_out",
}
_BLOCK = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "cross_attn.q_linear": ("attn2.to_q",),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
    "cross_attn.proj": ("attn2.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
}
_TABLE = "scale_shift_table"
#: What follows from the configuration, and what stood for no caption while the model was trained.
_PLACES, _NO_CAPTION = "pos_embed", "y_embedder.y_embedding"
_MARK = "t_block.1.weight"


def config(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `PixArtTransformer2DModel` that fit the tensors; `told` is what they do not say.

    Raises `KeyError` naming a tensor that is missing.
    """
    by_authors = _MARK in tensors
    names = ("x_embedder.proj", "y_embedder.y_proj.fc1", "final_layer.linear", "csize_embedder.mlp.0")
    first, words, last, sizes = names if by_authors else (_TOP[name] for name in names)
    width, channels, patch, _ = tensors[f"{first}.weight"].shape
    side = isqrt(tensors[_PLACES].shape[1]) * patch if _PLACES in tensors else int(told["sample_size"])
    return {
        "num_attention_heads": width // _HEAD,
        "attention_head_dim": _HEAD,
        "in_channels": channels,
        "out_channels": tensors[f"{last}.weight"].shape[0] // patch**2,
        "num_layers": layers(tensors),
        "cross_attention_dim": width,
        "sample_size": side,
        "patch_size": patch,
        "interpolation_scale": side // _SIDE if side >= _SIDE else side / _SIDE,
        "use_additional_conditions": f"{sizes}.weight" in tensors,
        "caption_channels": tensors[f"{words}.weight"].shape[1],
    }


def layers(tensors: Mapping[str, Any]) -> int:
    """How many blocks a file of either layout has."""
    return len({name.split(".")[1] for name in tensors if name.startswith(("blocks.", "transformer_blocks."))})


def renamed(name: str, tensor: torch.Tensor, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of the file as diffusers' ones; none for what is no part of the model there.

    Raises `KeyError` for one that the authors' model does not have as diffusers knows it.
    """
    if _MARK not in tensors:
        yield name, tensor
        return
    if name in (_PLACES, _NO_CAPTION):
        return
    module, _, last = name.rpartition(".")
    kind, _, rest = module.partition(".")
    if last == _TABLE:
        yield (f"transformer_blocks.{rest}.{_TABLE}" if kind == "blocks" else _TABLE), tensor
    elif kind == "blocks":
        number, _, inside = rest.partition(".")
        targets = _BLOCK[inside]
        for target, part in zip(targets, tensor.chunk(len(targets)), strict=True):
            yield f"transformer_blocks.{number}.{target}.{last}", part
    else:
        yield f"{_TOP[module]}.{last}", tensor
