"""A frozen base in 8 bits, by optimum-quanto: weights alone, so that any processor can train an adapter on it."""

from typing import Any

import torch

from schemas.diffusion import Options
from trainyard.trainer.failures import ConfigError

#: What goes in and out of a denoiser, and its norms, lose most by few bits and are small.
_STAYS_WHOLE = ("*embed*", "*norm*", "proj_out", "*.proj_out_*", "conv_in", "conv_out")


def loads_on(options: Options, device: torch.device) -> torch.device:
    """Where a denoiser is loaded that will be trained on `device`: the CPU, where it gets there in 8 bits alone."""
    by_cpu = options.base_model_precision != "no_change" and options.quantize_via == "cpu"
    return torch.device("cpu") if by_cpu else device


def quantise(denoiser: Any, options: Options, device: torch.device) -> Any:
    """Put quantised layers in the places of linear and convolutional ones; the same denoiser, on the device."""
    if options.base_model_precision == "no_change":
        return denoiser
    try:
        from optimum.quanto import freeze, qint8, quantize
    except ImportError as e:
        raise ConfigError(
            f"extra_parameters.base_model_precision: {options.base_model_precision} needs the package optimum-quanto, "
            "which is not installed"
        ) from e
    denoiser.to(loads_on(options, device))
    quantize(denoiser, weights=qint8, exclude=list(_STAYS_WHOLE))
    freeze(denoiser)
    return denoiser.to(device)
