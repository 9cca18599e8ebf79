"""An adapter at another strength for a while: 0 is the base model."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer


@contextmanager
def strength(denoiser: torch.nn.Module, factor: float, network: Any = None) -> Iterator[None]:
    """Inside, what an adapter adds counts `factor` times; a model without one stays as it is.

    `network` is the LyCORIS network over the denoiser, whose parts are no modules of it; a peft adapter is found in it.
    """
    layers = [m for m in denoiser.modules() if isinstance(m, BaseTunerLayer)] if factor != 1 else []
    scales = [dict(getattr(layer, "scaling", {})) for layer in layers]
    trained = {p: p.requires_grad for layer in layers for p in layer.parameters()}
    multiplier = network.multiplier if network is not None else 1.0
    try:
        for layer, scale in zip(layers, scales, strict=True):
            if factor == 0:
                layer.enable_adapters(False)
            else:
                layer.scaling.update({name: value * factor for name, value in scale.items()})
        if network is not None:
            network.set_multiplier(multiplier * factor)
        yield
    finally:
        for layer, scale in zip(layers, scales, strict=True):
            if factor == 0:
                layer.enable_adapters(True)
            else:
                layer.scaling.update(scale)
        for parameter, learns in trained.items():
            parameter.requires_grad_(learns)
        if network is not None:
            network.set_multiplier(multiplier)
