"""Kontext's stock pipeline with any number of pictures to edit."""

from typing import Any

import torch
from diffusers import FluxKontextPipeline

from trainyard.trainer.diffusion.families.parts import packing


class Kontext(FluxKontextPipeline):
    """As the stock pipeline, which takes one picture; with one it makes the same."""

    #: Scaled latents (1, c, h, w) of the pictures beyond the first, which is given as `image`.
    further: tuple[torch.Tensor, ...] = ()

    def prepare_latents(self, image: torch.Tensor | None, *args: Any, **kwargs: Any) -> Any:
        """Tokens and places of the noise, and of all pictures behind one another."""
        stock: Any = super()
        latents, shown, places, shown_places = stock.prepare_latents(image, *args, **kwargs)
        if shown is not None and image is not None and self.further:
            tokens = [packing.packed(each.to(shown)) for each in self.further]
            shown = torch.cat([shown, *tokens], dim=1)
            sizes = [each.shape[-2:] for each in (image, *self.further)]
            shown_places = packing.places_of(sizes).to(places)
        return latents, shown, places, shown_places
