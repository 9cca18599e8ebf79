"""How much noise a sample gets, and what the model shall say of it: what the loop is given, and the common draws."""

from typing import Protocol

import torch
from attrs import frozen

#: Steps of every schedule: a timestep is a number between 0 (clean) and this (noise).
STEPS = 1000


@frozen
class Noised:
    """One micro batch with noise in it; the first axis of every tensor counts its samples."""

    #: (b, c, h, w): what the model is shown.
    latents: torch.Tensor
    #: (b,): how far each is on the way to noise, 0 to 1000.
    timesteps: torch.Tensor
    #: (b, c, h, w): what the model shall say.
    target: torch.Tensor
    #: (b,): how much the loss of each sample counts.
    weights: torch.Tensor
    #: (b,): noise for each part of signal, the root of 1 / SNR; infinite where no signal is left.
    ratio: torch.Tensor


class Noise(Protocol):
    """A family's way from latents to what is trained on."""

    def draw(self, latents: torch.Tensor, generator: torch.Generator, *, step: int = 0) -> Noised:
        """Noise for scaled latents (b, c, h, w), on their device, in fp32; `step` counts optimizer steps from 0.

        The same for the same state of the generator, on whichever device that lives.
        """
        ...


def gaussian(latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Noise of the latents' shape and device, in fp32."""
    drawn = torch.randn(latents.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return drawn.to(latents.device)


def uniform(count: int, generator: torch.Generator, segmented: bool) -> torch.Tensor:
    """`count` numbers in [0, 1), fp64; segmented: one in each of `count` equal parts, in random order."""
    drawn = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    if not segmented or count == 1:
        return drawn
    order = torch.randperm(count, generator=generator, device=generator.device)
    return ((order + drawn) / count).clamp(max=1 - 2**-53)


def spread(values: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """(b,) as (b, 1, 1, 1), on the latents' device, in fp32."""
    return values.to(latents.device, torch.float32).reshape(-1, *(1,) * (latents.ndim - 1))
