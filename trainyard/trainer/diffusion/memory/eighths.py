"""Layers in 8 bits as shapes: what stands in for optimum-quanto's while memory is counted."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional


class _Product(torch.autograd.Function):
    """A product with frozen weights that keeps what it was given, as optimum-quanto's does."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(given, weight)
        return functional.linear(given, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return gradients[0] @ ctx.saved_tensors[1], None, None


class Linear(torch.nn.Linear):
    """As `torch.nn.Linear` over frozen weights."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(…, in) to (…, out)."""
        found: torch.Tensor = _Product.apply(input, self.weight, self.bias)
        return found


def put_in(denoiser: Any, names: Iterable[str]) -> set[int]:
    """Put such layers in the places of linear ones; the ids of all weights of these names, a byte a number each."""
    found = set()
    for name in names:
        module = denoiser.get_submodule(name)
        if isinstance(module, torch.nn.Linear):
            owner, _, last = name.rpartition(".")
            kind = module.weight.dtype
            made = Linear(module.in_features, module.out_features, module.bias is not None, device="meta", dtype=kind)
            setattr(denoiser.get_submodule(owner), last, made.requires_grad_(False))
            module = made
        found.add(id(module.weight))
    return found
