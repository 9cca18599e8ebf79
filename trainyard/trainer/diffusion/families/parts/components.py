"""Parts of an image model as modules on a device, from a diffusers folder or a single file."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from trainyard.trainer.diffusion.families.parts import single_file
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import from_source

if TYPE_CHECKING:
    from schemas.diffusion import Options

#: By the names that options have for them.
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "no": torch.float32}


def computed_in(options: "Options") -> torch.dtype:
    """What the job computes in, by `mixed_precision`."""
    return DTYPES[options.mixed_precision]


def load(
    kind: Any,
    weights: Weights,
    part: str,
    dtype: torch.dtype,
    device: torch.device,
    told: Mapping[str, Any] | None = None,
) -> Any:
    """A part of class `kind` of diffusers or transformers, frozen, ready to be asked.

    `told` is what the tensors of a single file do not say of it. Raises `ModelError` and its kin.
    """
    place = weights.need(part)
    try:
        if place.is_file():
            module = single_file.load(kind, place, dtype, told or {})
        else:
            arguments = {"dtype": dtype} if _of_transformers(kind) else {"torch_dtype": dtype}
            module = kind.from_pretrained(place, variant=weights.variant_of(part), **arguments)
    except Exception as e:
        raise from_source(e, f"{weights.name}: {part} ({place})") from e
    return module.to(device).eval().requires_grad_(False)


def blank(kind: Any, weights: Weights, part: str, dtype: torch.dtype, told: Mapping[str, Any]) -> Any:
    """The same of diffusers, frozen, with shapes and nothing in them. Raises `ModelError` and its kin."""
    from accelerate import init_empty_weights

    place = weights.need(part)
    try:
        if place.is_file():
            module = single_file.blank(kind, place, told)
        else:
            with init_empty_weights():
                module = kind.from_config(weights.config(part))
    except Exception as e:
        raise from_source(e, f"{weights.name}: {part} ({place})") from e
    return torch.nn.Module.to(module, dtype).eval().requires_grad_(False)


def tokenizer(kind: Any, weights: Weights, part: str) -> Any:
    """A tokenizer of class `kind`."""
    folder = weights.need(part)
    try:
        return kind.from_pretrained(folder)
    except Exception as e:
        raise from_source(e, f"{weights.name}: {part} ({folder})") from e


def scheduler(kind: Any, weights: Weights, usual: Mapping[str, Any], **changed: Any) -> Any:
    """A scheduler of class `kind`: configured as the model's own, or as `usual` where it has none."""
    return kind.from_config({**(weights.config("scheduler") or usual), **changed})


def inner(denoiser: Any) -> Any:
    """The model itself, whatever is wrapped around it, with its configuration."""
    while not hasattr(denoiser, "config"):
        denoiser = denoiser.module
    return denoiser


def dtype_of(module: torch.nn.Module) -> torch.dtype:
    """The precision of what a module is shown: that of its first weight."""
    return next(p.dtype for p in module.parameters() if p.is_floating_point())


def _of_transformers(kind: Any) -> bool:
    return str(kind.__module__).startswith("transformers.")
