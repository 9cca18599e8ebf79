"""SDXL's U-Net in the layout of its authors' files, read into diffusers'."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainyard.trainer.tensors import Tensor

_PREFIX = "model.diffusion_model."
#: Not told by the tensors: numbers of a head, of each size that the model is told, and the edge that it was made for.
_HEAD, _SIZE_NUMBERS, _EDGE = 64, 256, 128
_TOP = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}


def config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `UNet2DConditionModel` that fit the tensors. Raises `KeyError` naming one that is missing."""
    shapes = {name.removeprefix(_PREFIX): tensor.shape for name, tensor in tensors.items() if name.startswith(_PREFIX)}
    row = _row(shapes)
    first = [1 + row * block for block in range(1 + sum(name.endswith(".op.weight") for name in shapes))]
    channels = [shapes[f"input_blocks.{n}.0.in_layers.2.weight"][0] for n in first]
    depths = [_count(shapes, f"input_blocks.{n}.1.transformer_blocks.") for n in first]
    last = f"input_blocks.{first[-1]}.1"
    return {
        "sample_size": _EDGE,
        "in_channels": shapes["input_blocks.0.0.weight"][1],
        "out_channels": shapes["out.2.weight"][0],
        "block_out_channels": tuple(channels),
        "layers_per_block": row - 1,
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        "transformer_layers_per_block": tuple(depth or 1 for depth in depths),
        "attention_head_dim": tuple(width // _HEAD for width in channels),  # how many heads, whatever it is called
        "cross_attention_dim": shapes[f"{last}.transformer_blocks.0.attn2.to_k.weight"][1],
        "use_linear_projection": len(shapes[f"{last}.proj_in.weight"]) == 2,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": _SIZE_NUMBERS,
        "projection_class_embeddings_input_dim": shapes["label_emb.0.0.weight"][1],
    }


def renamed(name: str, tensor: torch.Tensor, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of the file as diffusers' one; none for what is no part of the U-Net."""
    if not name.startswith(_PREFIX):
        return
    module, _, last = name.removeprefix(_PREFIX).rpartition(".")
    if module in _TOP:
        yield f"{_TOP[module]}.{last}", tensor
        return
    side, number, rest = module.split(".", 2)
    if side == "middle_block":
        yield f"mid_block.{_MIDDLE[number]}.{_RESNET.get(rest, rest)}.{last}", tensor
        return
    row = _row({other.removeprefix(_PREFIX): None for other in tensors})
    block, place = divmod(int(number) - (side == "input_blocks"), row)
    kind, _, inside = rest.partition(".")
    folder = {"input_blocks": "down_blocks", "output_blocks": "up_blocks"}[side]
    if inside in ("op", "conv"):
        yield f"{folder}.{block}.{'down' if inside == 'op' else 'up'}samplers.0.conv.{last}", tensor
    elif kind == "0":
        yield f"{folder}.{block}.resnets.{place}.{_RESNET[inside]}.{last}", tensor
    else:
        yield f"{folder}.{block}.attentions.{place}.{inside}.{last}", tensor


def _row(names: Mapping[str, Any]) -> int:
    """How many of the file's blocks make one of diffusers': the first that makes the picture smaller ends one."""
    found = [int(name.split(".")[1]) for name in names if name.endswith(".op.weight")]
    if not found:
        raise KeyError("input_blocks.3.0.op.weight")
    return min(found)


def _count(shapes: Mapping[str, Any], start: str) -> int:
    return len({name.removeprefix(start).split(".")[0] for name in shapes if name.startswith(start)})
