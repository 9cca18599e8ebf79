"""The layout of Flux's authors' own files, and a transformer in it read into diffusers'.

Fused matrices are cut apart; all widths are taken from the tensors.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainyard.trainer.tensors import Tensor

_PREFIX = "model.diffusion_model."
#: Modules outside the blocks, and their names in diffusers.
TOP = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
}
#: The kinds of blocks: each one's name in diffusers, and its linear modules with their parts there.
BLOCKS = {
    "double_blocks": ("transformer_blocks", _DOUBLE),
    "single_blocks": ("single_transformer_blocks", _SINGLE),
}
_NORMS = {
    "double_blocks": {
        "img_attn.norm.query_norm": ("attn.norm_q",),
        "img_attn.norm.key_norm": ("attn.norm_k",),
        "txt_attn.norm.query_norm": ("attn.norm_added_q",),
        "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    },
    "single_blocks": {"norm.query_norm": ("attn.norm_q",), "norm.key_norm": ("attn.norm_k",)},
}


def config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `FluxTransformer2DModel` that fit the tensors. Raises `KeyError` naming one that is missing."""
    shapes = {name.removeprefix(_PREFIX): tensor.shape for name, tensor in tensors.items()}
    width, channels = shapes["img_in.weight"]
    head = shapes["double_blocks.0.img_attn.norm.query_norm.scale"][0]
    return {
        "in_channels": channels,
        "num_layers": _count(shapes, "double_blocks."),
        "num_single_layers": _count(shapes, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shapes["txt_in.weight"][1],
        "pooled_projection_dim": shapes["vector_in.in_layer.weight"][1],
        "guidance_embeds": "guidance_in.in_layer.weight" in shapes,
        # No tensor tells how a head is shared out among the places: an eighth is the first number's, as in Flux's 128.
        "axes_dims_rope": (head // 8, head * 7 // 16, head * 7 // 16),
    }


def renamed(name: str, tensor: torch.Tensor, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of the authors' file as diffusers' ones; none for what lies beside the transformer in a file of more.

    Raises `KeyError` for one that Flux does not have.
    """
    if not name.startswith(_PREFIX) and any(other.startswith(_PREFIX) for other in tensors):
        return
    module, _, last = name.removeprefix(_PREFIX).rpartition(".")
    last = "weight" if last == "scale" else last
    kind, _, rest = module.partition(".")
    if kind not in BLOCKS:
        if kind == "final_layer" and module.endswith("adaLN_modulation.1"):
            tensor = swapped(tensor)
        yield f"{TOP[module]}.{last}", tensor
        return
    folder, names = BLOCKS[kind]
    number, _, inside = rest.partition(".")
    targets = _NORMS[kind].get(inside) or names[inside]
    for target, part in zip(targets, _cut(tensor, targets, last), strict=True):
        yield f"{folder}.{number}.{target}.{last}", part


def swapped(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of the last modulation: theirs are shift before scale, diffusers' the other way round."""
    return torch.cat(tensor.chunk(2)[::-1])


def _cut(tensor: torch.Tensor, targets: tuple[str, ...], last: str) -> tuple[torch.Tensor, ...]:
    if len(targets) < 4:
        return tensor.chunk(len(targets))
    # Queries, keys and values are as wide as the model, the rest of the rows goes to the feed-forward layer, 4 times.
    width = len(tensor) // 7
    return tensor.split([width, width, width, len(tensor) - 3 * width])


def _count(shapes: Mapping[str, Any], start: str) -> int:
    return len({name.split(".")[1] for name in shapes if name.startswith(start)})
