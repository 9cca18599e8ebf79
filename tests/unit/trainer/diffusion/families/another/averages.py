"""A family in one file, as somebody else would add it: flow over averaged pixels, told one number a prompt."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from safetensors.torch import save_file

from trainyard.trainer.diffusion.families.parts.flow import Flow
from trainyard.trainer.diffusion.families.parts.usual import Usual


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.words = torch.nn.Linear(1, 3)

    def forward(self, latents: torch.Tensor, timesteps: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return self.convolution(latents) + self.words(words)[..., None, None] * (timesteps / 1000)[:, None, None, None]


@frozen
class Lengths:
    key: str = "averages 1"

    def encode(self, prompts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        return [{"words": torch.tensor([float(len(prompt))])} for prompt in prompts]

    def cut(self, prompt: str) -> int:
        return 0


class Averages(Usual):
    name = "averages"
    flavours = {"usual": "nobody/averages"}
    usual_flavour = "usual"
    prediction = "flow_matching"
    part = "unet"
    denoisers = ("Averages",)
    parts = ("unet",)
    elsewhere: dict[str, tuple[str, ...]] = {}
    lora_targets = {"default": ("words",)}
    stride = 8

    def check(self, weights: Any, options: Any) -> list[str]:
        return [] if weights.at("unet") else [f"{weights.name} has no unet"]

    def texts(self, weights: Any, options: Any, device: Any) -> Lengths:
        return Lengths()

    def vae(self, weights: Any, options: Any, device: Any) -> Any:
        return None

    def vae_key(self, weights: Any, options: Any) -> str:
        return "averages"

    def encode(self, vae: Any, pixels: torch.Tensor, generator: Any = None) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels, 8)

    def decode(self, vae: Any, latents: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=8)

    def denoiser(self, weights: Any, options: Any, device: Any, dtype: Any = None) -> torch.nn.Module:
        return Net()

    def outline(self, denoiser: Any, options: Any, count: int) -> tuple[int, dict[str, torch.Tensor]]:
        return 3, {"words": torch.zeros(count, 1)}

    def noise(self, weights: Any, options: Any) -> Flow:
        return Flow.of(options, {}, patch=1)

    def predict(self, denoiser: torch.nn.Module, shown: Any) -> torch.Tensor:
        return denoiser(shown.latents, shown.timesteps, shown.texts["words"])

    def save_lora(self, denoiser: torch.nn.Module, folder: Path) -> None:
        save_file(denoiser.state_dict(), folder / "averages.safetensors")


FAMILY = Averages()
