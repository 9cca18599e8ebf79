"""What the sampler draws and the loader brings."""

from typing import TYPE_CHECKING

from attrs import frozen

from trainyard.trainer.diffusion.data.picture import Picture

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


@frozen
class Drawn:
    """A picture drawn for a step, with the caption drawn for it (empty: dropped) and the references drawn for it."""

    picture: Picture
    caption: str
    references: tuple[Picture, ...] = ()


@frozen
class Batch:
    """One micro batch as tensors; what each is: `families.family.Shown`."""

    drawn: tuple[Drawn, ...]
    latents: "torch.Tensor"
    texts: "Mapping[str, torch.Tensor]"
    sizes: "torch.Tensor"
    references: "tuple[torch.Tensor, ...]" = ()
