"""What most families answer alike."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from trainyard.trainer.diffusion.families.family import Embedding
from trainyard.trainer.diffusion.families.parts.components import blank, computed_in, load
from trainyard.trainer.diffusion.families.parts.latents import WithVae
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from schemas.diffusion import Options


class Usual(WithVae):
    """A `family.Family` whose embeddings are all of one length, that edits nothing and is told no guidance."""

    part: str
    tiny_vae: str | None = None
    classes: ClassVar[Mapping[str, str]] = {}
    everywhere: ClassVar[Mapping[str, str]] = {}

    def kind(self) -> Any:
        """The denoiser's class in diffusers."""
        raise AttributeError(f"{type(self).__name__} says no class of its denoiser")

    def notes(self, options: "Options") -> list[str]:
        """See `family.Family.notes`."""
        return []

    def edits(self, options: "Options") -> bool:
        """See `family.Family.edits`."""
        return False

    def denoiser(
        self, weights: Weights, options: "Options", device: torch.device, dtype: torch.dtype | None = None
    ) -> torch.nn.Module:
        """See `family.Family.denoiser`."""
        told = self.told(weights, options)
        found: torch.nn.Module = load(self.kind(), weights, self.part, dtype or computed_in(options), device, told)
        return found

    def blank(self, weights: Weights, options: "Options", dtype: torch.dtype) -> torch.nn.Module:
        """See `family.Family.blank`."""
        found: torch.nn.Module = blank(self.kind(), weights, self.part, dtype, self.told(weights, options))
        return found

    def told(self, weights: Weights, options: "Options") -> Mapping[str, Any]:
        """What the tensors of a single file do not say of the denoiser."""
        return {}

    def guidance(self, options: "Options", count: int, generator: torch.Generator) -> torch.Tensor | None:
        """See `family.Family.guidance`."""
        return None

    def stacked(self, embeddings: Sequence[Embedding]) -> Embedding:
        """See `family.Family.stacked`."""
        return {name: torch.stack([one[name] for one in embeddings]) for name in embeddings[0]}
