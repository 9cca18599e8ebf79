"""A peft adapter as files that stock loaders read."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from trainyard.trainer.diffusion.families.parts.components import inner

_NAME = "default"


def tensors(denoiser: Any) -> dict[str, torch.Tensor]:
    """The adapter's tensors by the names of diffusers: those of the modules and `lora_A.weight`, `lora_B.weight`."""
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(inner(denoiser), adapter_name=_NAME)
    return {name: tensor.detach().to("cpu").contiguous() for name, tensor in found.items()}


def described(denoiser: Any) -> dict[str, Any]:
    """The adapter's configuration as diffusers writes it beside the tensors, without which alpha would be the rank."""
    config = inner(denoiser).peft_config[_NAME].to_dict()
    return {name: sorted(value) if isinstance(value, set) else value for name, value in config.items()}


def save_folder(denoiser: Any, folder: Path) -> None:
    """As a folder that `peft.PeftModel.from_pretrained(transformer, folder)` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    inner(denoiser).peft_config[_NAME].save_pretrained(folder)
    named = {f"base_model.model.{name}": tensor for name, tensor in tensors(denoiser).items()}
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})
