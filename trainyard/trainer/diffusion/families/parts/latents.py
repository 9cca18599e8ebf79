"""Pixels to scaled latents and back, by an `AutoencoderKL` of diffusers: what every family here does with them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from trainyard.trainer.diffusion.families.parts.components import DTYPES, load
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from schemas.diffusion import Options

#: Raised when the same weights would give other latents.
_MADE_BY = 1


class WithVae:
    """The part of a `family.Family` that is about its VAE."""

    #: What the single file of a VAE does not say of it.
    single_vae: ClassVar[Mapping[str, float]] = {"scaling_factor": 0.13025}

    def vae(self, weights: Weights, options: "Options", device: torch.device) -> Any:
        """See `family.Family.vae`."""
        from diffusers import AutoencoderKL

        vae = load(AutoencoderKL, weights, "vae", vae_dtype(weights, options), device, self.single_vae)
        if options.vae_enable_tiling:
            vae.enable_tiling()
        if options.vae_enable_slicing:
            vae.enable_slicing()
        return vae

    def vae_key(self, weights: Weights, options: "Options") -> str:
        """See `family.Family.vae_key`."""
        tiled = " tiled" if options.vae_enable_tiling else ""
        return f"{_MADE_BY} {weights.digest('vae')} {vae_dtype(weights, options)}{tiled}"

    def encode(self, vae: Any, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """See `family.Family.encode`."""
        with torch.no_grad():
            drawn = vae.encode(pixels.to(vae.device, vae.dtype)).latent_dist
        found = drawn.mode() if generator is None else drawn.sample(generator)
        return (found - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor

    def decode(self, vae: Any, latents: torch.Tensor) -> torch.Tensor:
        """See `family.Family.decode`."""
        unscaled = latents / vae.config.scaling_factor
        if vae.config.shift_factor:
            unscaled = unscaled + vae.config.shift_factor
        with torch.no_grad():
            pixels: torch.Tensor = vae.decode(unscaled.to(vae.device, vae.dtype), return_dict=False)[0]
        return pixels


def vae_dtype(weights: Weights, options: "Options") -> torch.dtype:
    """What the VAE computes in: as `vae_dtype` says; fp32 in place of fp16 where it would overflow."""
    wanted = options.vae_dtype if options.vae_dtype != "default" else weights.precision("vae")
    if wanted == "fp16" and weights.config("vae").get("force_upcast", True):
        return torch.float32
    return DTYPES[wanted]
