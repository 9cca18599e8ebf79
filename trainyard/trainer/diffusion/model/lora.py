"""LoRA by peft: low-rank matrices beside the denoiser's own (Hu et al., arXiv:2106.09685)."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from schemas.diffusion import Options
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.model.trained import TRAINED, load_into, save_tensors
from trainyard.trainer.failures import ConfigError, first_line

_NAME = "default"
_INIT: dict[str, bool | str] = {"default": True, "gaussian": "gaussian"}


@frozen
class Lora:
    """See `trained.Trained`; the parameters are fp32 whatever the base is held in."""

    denoiser: Any
    family: Family
    network: None = None

    @classmethod
    def put_on(cls, denoiser: Any, family: Family, options: Options) -> "Lora":
        """Begin an adapter that changes nothing yet. Raises `ConfigError` where the modules are not there."""
        from peft import LoraConfig, inject_adapter_in_model

        at, targets = targets_of(family, options)
        if options.lora_init_type not in _INIT:
            raise ConfigError(
                f"extra_parameters.lora_init_type: {options.lora_init_type!r} is not in this version, as it changes "
                f"the base too; {', '.join(_INIT)} would be right"
            )
        config = LoraConfig(
            r=options.lora_rank,
            lora_alpha=options.lora_alpha or options.lora_rank,
            lora_dropout=options.lora_dropout,
            init_lora_weights=_INIT[options.lora_init_type],
            target_modules=list(targets),
            use_dora=options.use_dora,
        )
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated")  # can't be merged, and never is
                if hasattr(denoiser, "add_adapter"):
                    denoiser.add_adapter(config, _NAME)
                else:
                    inject_adapter_in_model(config, denoiser, _NAME)
        except ValueError as e:
            raise ConfigError(f"{at}: {first_line(e)}") from e
        for name, parameter in denoiser.named_parameters():
            parameter.requires_grad_("lora_" in name)
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return cls(denoiser, family)

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `trained.Trained`."""
        return {name: p for name, p in self.denoiser.named_parameters() if p.requires_grad}

    def save(self, folder: Path) -> None:
        """See `trained.Trained`."""
        save_tensors(self.parameters, folder / TRAINED)
        self.write(folder)

    def load(self, folder: Path) -> None:
        """See `trained.Trained`."""
        load_into(self.parameters, [folder / TRAINED])

    def write(self, folder: Path) -> None:
        """In the format of the family's stock loader."""
        self.family.save_lora(self.denoiser, folder)


def targets_of(family: Family, options: Options) -> tuple[str, Sequence[str]]:
    """The option that says it, and the modules that an adapter is put on."""
    if options.peft_lora_target_modules:
        return "extra_parameters.peft_lora_target_modules", options.peft_lora_target_modules
    if len(family.lora_targets) == 1:  # no named sets
        return "extra_parameters.peft_lora_target_modules", family.lora_targets["default"]
    at = "extra_parameters.flux_lora_target"
    if options.flux_lora_target not in family.lora_targets:
        raise ConfigError(f"{at}: {options.flux_lora_target!r} is not one of {', '.join(family.lora_targets)}")
    return at, family.lora_targets[options.flux_lora_target]
