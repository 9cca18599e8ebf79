"""A picture while it is made: latents of one sampling step as colours, at a cost that sampling does not feel."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from attrs import frozen
from PIL import Image
from safetensors import SafetensorError

from trainyard.trainer.diffusion.data.images import pixels
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.failures import ConfigError, first_line

_FITTED_TO = 8
_RIDGE = 1e-3


class Previewer(Protocol):
    """Shows latents."""

    def show(self, latents: torch.Tensor) -> Image.Image:
        """A picture of scaled latents (1, c, h, w), with noise in them or without."""
        ...


@frozen
class Tiny:
    """A small autoencoder's decoder, as taesd and its kin: trained to be a fast stand-in for a family's own VAE."""

    decoder: Any

    @classmethod
    def load(cls, folder: str, channels: int | None, device: torch.device) -> "Tiny":
        """From a folder that diffusers wrote; `channels` are those of the latents, where they are known.

        Raises `ConfigError` where it is none, or of other latents.
        """
        from diffusers import AutoencoderTiny

        at = "extra_parameters.validation_preview_decoder"
        if not (Path(folder) / "config.json").is_file():
            raise ConfigError(f"{at}: {folder}: a folder with a diffusers AutoencoderTiny would be right")
        try:
            decoder = AutoencoderTiny.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as e:
            raise ConfigError(f"{at}: {folder}: {first_line(e)}") from e
        if channels is not None and decoder.config.latent_channels != channels:
            raise ConfigError(
                f"{at}: {folder}: it is for latents of {decoder.config.latent_channels} channels, the model's have "
                f"{channels}"
            )
        decoder.requires_grad_(False).eval()
        return cls(decoder.to(device))

    def show(self, latents: torch.Tensor) -> Image.Image:
        """See `Previewer.show`."""
        where = next(self.decoder.parameters())
        decoded = self.decoder.decode(latents.to(where.device, where.dtype), return_dict=False)[0]
        return _picture(decoded[0])


@frozen
class Colours:
    """Three colours for each place of the latents: the affine map that fits the training pictures best."""

    #: (c + 1, 3): the last row is added.
    weights: torch.Tensor
    #: Pixels of a place, in each direction.
    scale: int

    @classmethod
    def fit(cls, family: Family, vae: Any, pictures: Sequence[Picture], device: torch.device) -> "Colours":
        """Least squares over a few pictures' latents and their pixels, averaged over the area of each place."""
        rows, colours, scale = [], [], 1
        for picture in pictures[:: max(1, len(pictures) // _FITTED_TO)][:_FITTED_TO]:
            image = torch.from_numpy(pixels(picture)).permute(2, 0, 1)[None].to(device, torch.float32) / 127.5 - 1
            latents = family.encode(vae, image).double().cpu()
            scale = image.shape[-1] // latents.shape[-1]
            small = torch.nn.functional.interpolate(image.double().cpu(), size=latents.shape[-2:], mode="area")
            rows.append(latents[0].flatten(1).T)
            colours.append(small[0].flatten(1).T)
        latent = torch.cat(rows)
        latent = torch.cat([latent, torch.ones(len(latent), 1, dtype=latent.dtype)], dim=1)
        square = latent.T @ latent + _RIDGE * torch.eye(latent.shape[1], dtype=latent.dtype)
        return cls(torch.linalg.solve(square, latent.T @ torch.cat(colours)).float(), scale)

    def show(self, latents: torch.Tensor) -> Image.Image:
        """See `Previewer.show`; as large as the picture will be."""
        places = latents[0].float().cpu()
        colours = torch.einsum("chw,cd->dhw", places, self.weights[:-1]) + self.weights[-1][:, None, None]
        small = _picture(colours)
        return small.resize((small.width * self.scale, small.height * self.scale), Image.Resampling.BICUBIC)


def _picture(colours: torch.Tensor) -> Image.Image:
    """Of (3, h, w) between -1 and 1."""
    bytes_ = ((colours.float().cpu().nan_to_num().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(np.ascontiguousarray(bytes_.permute(1, 2, 0).numpy()))
