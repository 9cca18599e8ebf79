"""The second text encoder of SDXL in the layout of OpenCLIP, read into that of transformers."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainyard.trainer.tensors import Tensor

_PREFIX = "conditioner.embedders.1.model."
_BLOCKS = "transformer.resblocks."
_HEAD = 64
_TOP = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `CLIPTextConfig` that fit the tensors. Raises `KeyError` naming one that is missing."""
    shapes = {name.removeprefix(_PREFIX): tensor.shape for name, tensor in tensors.items()}
    words, width = shapes["token_embedding.weight"]
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": shapes[f"{_BLOCKS}0.mlp.c_fc.weight"][0],
        "num_hidden_layers": len({name.split(".")[2] for name in shapes if name.startswith(_BLOCKS)}),
        "num_attention_heads": width // _HEAD,
        "max_position_embeddings": shapes["positional_embedding"][0],
        "hidden_act": "gelu",
        "projection_dim": shapes["text_projection"][1],
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
    }


def renamed(name: str, tensor: torch.Tensor, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of the file as transformers' ones; none for what is no part of this encoder."""
    short = name.removeprefix(_PREFIX)
    if short == name or short == "logit_scale":
        return
    if short in _TOP:
        yield _TOP[short], tensor
    elif short == "text_projection":
        yield "text_projection.weight", tensor.T
    elif short.startswith(_BLOCKS):
        number, _, rest = short.removeprefix(_BLOCKS).partition(".")
        own = f"text_model.encoder.layers.{number}"
        if rest.startswith("attn.in_proj_"):
            last = rest.removeprefix("attn.in_proj_")
            for part, cut in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{own}.self_attn.{part}_proj.{last}", cut
        else:
            module, _, last = rest.rpartition(".")
            yield f"{own}.{_BLOCK[module]}.{last}", tensor
