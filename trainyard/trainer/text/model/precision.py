"""In which numbers a job computes, and whether this machine can; looked at before any weight is loaded."""

import torch

from trainyard.trainer.failures import ConfigError, first_line
from trainyard.trainer.text import quantiser
from trainyard.trainer.text.settings import WHOLE, Settings

_PRECISION = "customization.precision"
_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16, "float16": torch.float16, "bfloat16": torch.bfloat16}


def computed_in(settings: Settings, device: torch.device) -> torch.dtype | None:
    """The type that autocast computes in; None is fp32.

    `int8` says how the base is held, not how the rest is computed: that is bf16 where the device has it, else fp16.
    """
    if settings.method == "qlora" and settings.compute_type is not None:
        return _HALVES[settings.compute_type]
    if settings.precision == "int8":
        return torch.bfloat16 if _has_bf16(device) else torch.float16
    return _HALVES.get(settings.precision)


def check_numbers(settings: Settings, device: torch.device) -> None:
    """Raises `ConfigError` for numbers that this machine, or the packages on it, can't compute with."""
    _check_int8(settings)
    if computed_in(settings, device) is torch.bfloat16 and not _has_bf16(device):
        at = _PRECISION if settings.precision == "bf16" else "customization.qlora.bnb_4bit_compute_dtype"
        name = torch.cuda.get_device_name(device)
        raise ConfigError(f"{at}: {name} does not compute in bfloat16; fp16 or fp32 would run")
    wanted = quantiser.needed_for(settings)
    if wanted is None:
        return
    if not quantiser.installed():
        raise ConfigError(f"{wanted} needs bitsandbytes, which is not installed: {quantiser.INSTALL}")
    try:
        _try(settings, device)
    except Exception as e:
        raise ConfigError(f"{wanted}: bitsandbytes has no working kernel for {_name(device)}: {first_line(e)}") from e


def _check_int8(settings: Settings) -> None:
    if settings.precision != "int8":
        return
    if settings.method in WHOLE:
        raise ConfigError(
            f"{_PRECISION}: 'int8' quantises a frozen base, and method {settings.method!r} trains it; bf16 or "
            "fp32 would run, or method: lora"
        )
    if settings.method == "qlora":
        raise ConfigError(f"{_PRECISION}: 'int8' and method 'qlora' quantise the same base; bf16 would run")


def _has_bf16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def _try(settings: Settings, device: torch.device) -> None:
    """Do with a few numbers what the job will do with many."""
    import bitsandbytes as bnb

    given = torch.ones(2, 64, device=device, dtype=torch.float16)
    if settings.method == "qlora":
        kind = {"quant_type": settings.quant_type, "compress_statistics": settings.double_quant}
        bnb.nn.Linear4bit(64, 64, bias=False, compute_dtype=torch.float16, **kind).to(device)(given)
    elif settings.precision == "int8":
        bnb.nn.Linear8bitLt(64, 64, bias=False, has_fp16_weights=False).to(device)(given)
    if settings.optimizer.endswith("_8bit"):
        weight = torch.nn.Parameter(torch.ones(64, 64, device=device))
        weight.grad = torch.ones_like(weight)
        bnb.optim.AdamW8bit([weight]).step()


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
