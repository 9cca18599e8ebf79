"""A Flux adapter under the names of Flux's own files, as ComfyUI reads it and as diffusers' `load_lora_weights` does.

Black Forest Labs' files hold q, k and v of an attention (and in single blocks the first layer of the feed-forward) as
one matrix each. An adapter of the parts is one of the whole whose up matrix is block-diagonal: its rank is the sum, and
its alpha grows with it, so that the strength stays. Names: `diffusers.loaders.lora_conversion_utils`
(`_convert_kohya_flux_lora_to_diffusers`, which takes such an adapter apart again).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from attrs import frozen
from safetensors.torch import load_file, save_file

from schemas.diffusion import Options
from trainyard.trainer.diffusion.families.parts import bfl

FILE: Final = "pytorch_lora_weights.safetensors"
_PREFIX, _OURS = "diffusion_model.", "transformer."
#: Widths of the parts, in widths of the model, where an adapter lacks some: the feed-forward is four times as wide.
_WIDER: Final = {"proj_mlp": 4}


@frozen
class Pair:
    """The two matrices of a module's adapter: down (r, in) and up (out, r)."""

    down: torch.Tensor
    up: torch.Tensor


def name_as_asked(folder: Path, options: Options) -> None:
    """Give the adapter that diffusers wrote into a folder these names, where `lora_format` says so.

    What diffusers wrote beside the tensors says the scaling once more and goes away: it would count twice.
    """
    if options.model_type == "lora" and options.lora_format == "comfyui":
        path, alpha = folder / FILE, float(options.lora_alpha or options.lora_rank)
        save_file(renamed(load_file(path), alpha), path, metadata={"format": "pt"})


def renamed(tensors: Mapping[str, torch.Tensor], alpha: float) -> dict[str, torch.Tensor]:
    """The tensors of an adapter by those names; with one `alpha` for each module."""
    modules = _modules(tensors)
    found: dict[str, torch.Tensor] = {}
    for name, parts in _placed(modules):
        whole = parts[0] if len(parts) == 1 else _joined(parts)
        times = whole.down.shape[0] / next(iter(modules.values())).down.shape[0]
        found[f"{_PREFIX}{name}.lora_down.weight"] = whole.down.contiguous()
        found[f"{_PREFIX}{name}.lora_up.weight"] = whole.up.contiguous()
        found[f"{_PREFIX}{name}.alpha"] = torch.tensor(alpha * times)
    return found


def _modules(tensors: Mapping[str, torch.Tensor]) -> dict[str, Pair]:
    names = {name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")}
    return {
        name.removeprefix(_OURS): Pair(tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"])
        for name in sorted(names)
    }


def _placed(modules: Mapping[str, Pair]) -> Iterator[tuple[str, list[Pair]]]:
    """Modules of those files, each with the parts that it is made of. Raises `ValueError` for one that has no name."""
    left = dict(modules)
    for theirs, (ours, table) in bfl.BLOCKS.items():
        numbers = {int(at[1]) for name in modules if (at := re.match(rf"{ours}\.(\d+)\.", name))}
        for number in sorted(numbers):
            for name, parts in table.items():
                there = {part: left.pop(f"{ours}.{number}.{part}", None) for part in parts}
                if any(pair is not None for pair in there.values()):
                    yield f"{theirs}.{number}.{name}", _complete(there)
    for theirs, ours in bfl.TOP.items():
        if (pair := left.pop(ours, None)) is not None:
            yield theirs, [Pair(pair.down, bfl.swapped(pair.up)) if ours == "norm_out.linear" else pair]
    if left:  # no linear module of the stock class
        raise ValueError(f"{min(left)} has no name in files of Flux")


def _complete(parts: Mapping[str, Pair | None]) -> list[Pair]:
    """With nothing in the place of parts that no adapter is put on."""
    known = next((name, pair) for name, pair in parts.items() if pair is not None)
    width = known[1].up.shape[0] // _WIDER.get(known[0], 1)
    return [_nothing(known[1], width * _WIDER.get(name, 1)) if pair is None else pair for name, pair in parts.items()]


def _nothing(like: Pair, width: int) -> Pair:
    return Pair(torch.zeros_like(like.down), like.up.new_zeros(width, like.up.shape[1]))


def _joined(parts: Sequence[Pair]) -> Pair:
    return Pair(torch.cat([part.down for part in parts]), torch.block_diag(*(part.up for part in parts)))
