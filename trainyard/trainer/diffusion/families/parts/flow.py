"""Rectified flow: latents go to noise on a straight line, and the model says where it leads.

Liu et al., Flow Straight and Fast (arXiv:2209.03003); timesteps: Esser et al., Scaling Rectified Flow Transformers
(arXiv:2403.03206).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from trainyard.trainer.diffusion.noise import STEPS, Noised, gaussian, spread, uniform
from trainyard.trainer.failures import ConfigError

if TYPE_CHECKING:
    from schemas.diffusion import Options

#: What a uniform number becomes, between 0 (clean) and 1 (noise): the inverse of a distribution.
Quantile = Callable[[torch.Tensor], torch.Tensor]
_GRID = 1 << 14
#: The timesteps at which schnell is asked in its four steps.
_FAST = (1000.0, 750.0, 500.0, 250.0)


@frozen(kw_only=True)
class AutoShift:
    """The shift of Flux's own scheduler: larger pictures are trained at more noise."""

    base_length: int = 256
    most_length: int = 4096
    base: float = 0.5
    most: float = 1.15

    @classmethod
    def of(cls, scheduler: Mapping[str, Any]) -> "AutoShift":
        """As a scheduler's configuration says."""
        names = {
            "base_length": "base_image_seq_len",
            "most_length": "max_image_seq_len",
            "base": "base_shift",
            "most": "max_shift",
        }
        return cls(**{own: scheduler[theirs] for own, theirs in names.items() if theirs in scheduler})

    def shift(self, length: int) -> float:
        """The shift for a picture of `length` tokens."""
        slope = (self.most - self.base) / (self.most_length - self.base_length)
        return math.exp(self.base + slope * (length - self.base_length))


@frozen(kw_only=True)
class Flow:
    """Noise for models of flow; the target is noise minus latents."""

    quantile: Quantile
    #: Whether `quantile` is a list, which is not shifted.
    listed: bool = False
    #: 1 changes nothing.
    shift: float = 1.0
    #: Instead of `shift`.
    auto_shift: AutoShift | None = None
    #: Places of the latents, in each direction, that make one token.
    patch: int = 2
    segmented: bool = True

    @classmethod
    def of(cls, options: "Options", scheduler: Mapping[str, Any], patch: int = 2) -> "Flow":
        """As the options say. Raises `ConfigError` where two of them name different timesteps."""
        return cls(
            quantile=quantile_of(options),
            listed=options.flow_custom_timesteps is not None or options.flux_fast_schedule,
            shift=options.flow_schedule_shift or 1.0,
            auto_shift=AutoShift.of(scheduler) if options.flow_schedule_auto_shift else None,
            patch=patch,
            segmented=not options.disable_segmented_timestep_sampling,
        )

    def draw(self, latents: torch.Tensor, generator: torch.Generator, *, step: int = 0) -> Noised:
        """See `noise.Noise.draw`."""
        latents = latents.float()
        sigmas = self.sigmas(latents, generator)
        noise = gaussian(latents, generator)
        part = spread(sigmas, latents)
        sigmas = part.flatten()
        return Noised(
            latents=(1 - part) * latents + part * noise,
            timesteps=sigmas * STEPS,
            target=noise - latents,
            weights=torch.ones_like(sigmas),
            ratio=sigmas / (1 - sigmas),
        )

    def sigmas(self, latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(b,) fp64: which part of each sample is noise."""
        drawn = self.quantile(uniform(len(latents), generator, self.segmented))
        if self.listed:
            return drawn
        shift = self.shift
        if self.auto_shift is not None:
            shift = self.auto_shift.shift(latents.shape[-2] * latents.shape[-1] // self.patch**2)
        return shift * drawn / (1 + (shift - 1) * drawn)


def quantile_of(options: "Options") -> Quantile:
    """The distribution of timesteps that the options name; else a logit-normal one, a sigmoid of Gaussian numbers."""
    chosen = {
        "flow_use_uniform_schedule": options.flow_use_uniform_schedule,
        "flow_use_beta_schedule": options.flow_use_beta_schedule,
        "flow_custom_timesteps": options.flow_custom_timesteps is not None,
        "flux_fast_schedule": options.flux_fast_schedule,
    }
    names = [name for name, wanted in chosen.items() if wanted]
    if len(names) > 1:
        raise ConfigError(f"extra_parameters.{names[1]}: contradicts {names[0]}; one of them would be right")
    if options.flow_custom_timesteps is not None:
        return of_list([float(t) for t in options.flow_custom_timesteps])
    if options.flux_fast_schedule:
        return of_list(_FAST)
    if options.flow_use_uniform_schedule:
        return lambda u: u
    if options.flow_use_beta_schedule:
        return beta(options.flow_beta_schedule_alpha, options.flow_beta_schedule_beta)
    return logit_normal(0.0, options.flow_sigmoid_scale)


def logit_normal(mean: float, deviation: float) -> Quantile:
    """A sigmoid of Gaussian numbers of that mean and standard deviation."""
    return lambda u: torch.sigmoid(mean + deviation * torch.special.ndtri(u.clamp(min=2**-53)))


def beta(alpha: float, beta: float) -> Quantile:
    """A Beta distribution, inverted on a grid of sin² that is fine at both ends."""
    angles = (torch.arange(_GRID, dtype=torch.float64) + 0.5) * (math.pi / 2 / _GRID)
    weights = torch.sin(angles) ** (2 * alpha - 1) * torch.cos(angles) ** (2 * beta - 1)
    below = torch.cat([torch.zeros(1, dtype=torch.float64), weights.cumsum(0)])
    below = below / below[-1]

    def quantile(u: torch.Tensor) -> torch.Tensor:
        known = below.to(u.device)
        cell = (torch.searchsorted(known, u, right=True) - 1).clamp(0, _GRID - 1)
        inside = (u - known[cell]) / (known[cell + 1] - known[cell])
        return torch.sin((cell + inside) * (math.pi / 2 / _GRID)) ** 2

    return quantile


def of_list(timesteps: Sequence[float]) -> Quantile:
    """One of these timesteps, each as likely; in parts of 1000."""
    return lambda u: torch.tensor(timesteps, dtype=u.dtype, device=u.device)[(u * len(timesteps)).long()] / STEPS
