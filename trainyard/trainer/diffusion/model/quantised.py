"""A frozen base in 8 bits: weights alone, so that any processor can train an adapter on it."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from typing import Any

import torch

from schemas.diffusion import Options
from trainyard.trainer.failures import ConfigError

#: What goes in and out of a denoiser loses most by few bits, and is small. Norms' own weights quanto never takes.
_STAYS_WHOLE = ("*embed*", "norm_out*", "proj_out", "*.proj_out_*", "conv_in", "conv_out")


def loads_on(options: Options, device: torch.device) -> torch.device:
    """Where a denoiser is loaded that will be trained on `device`: the CPU, where it gets there in 8 bits alone."""
    by_cpu = options.base_model_precision != "no_change" and options.quantize_via == "cpu"
    return torch.device("cpu") if by_cpu else device


def quantise(denoiser: Any, options: Options, device: torch.device) -> Any:
    """Put 8 bits in the places of the weights of linear layers, by optimum-quanto of convolutional ones too.

    The same denoiser, on the device. Raises `ConfigError` where the package for it is not installed.
    """
    kind = options.base_model_precision
    if kind == "no_change":
        return denoiser
    denoiser.to(loads_on(options, device))
    try:
        _BY[kind](denoiser, in_eight_bits(denoiser, options))
    except ImportError as e:
        package = _PACKAGES[kind]
        raise ConfigError(
            f"extra_parameters.base_model_precision: {kind} needs the package {package}, which is not installed"
        ) from e
    torch.cuda.empty_cache()  # what the whole weights took is free for others
    return denoiser.to(device)


def in_eight_bits(denoiser: Any, options: Options) -> list[str]:
    """The names of the modules whose weights `quantise` takes; none where it does nothing."""
    kinds = _KINDS.get(options.base_model_precision, ())
    named = ((name, module) for name, module in denoiser.named_modules() if isinstance(module, kinds))
    return [name for name, _ in named if not any(fnmatch(name, pattern) for pattern in _STAYS_WHOLE)]


def _by_quanto(denoiser: Any, _names: list[str]) -> None:
    from optimum.quanto import freeze, qint8, quantize

    quantize(denoiser, weights=qint8, exclude=list(_STAYS_WHOLE))  # the same, and looked for faster than by name
    freeze(denoiser)


def _by_torchao(denoiser: Any, names: list[str]) -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    chosen = frozenset(names)
    quantize_(denoiser, Int8WeightOnlyConfig(set_inductor_config=False), lambda _, name: name in chosen)


_BY: Mapping[str, Callable[[Any, list[str]], None]] = {"int8-quanto": _by_quanto, "int8-torchao": _by_torchao}
_KINDS: Mapping[str, tuple[type[torch.nn.Module], ...]] = {
    "int8-quanto": (torch.nn.Linear, torch.nn.Conv2d),
    "int8-torchao": (torch.nn.Linear,),
}
_PACKAGES = {"int8-quanto": "optimum-quanto", "int8-torchao": "torchao"}
