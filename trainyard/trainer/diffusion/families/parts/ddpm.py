"""Noise schedules of a thousand steps, for models that say the noise or the velocity.

Ho et al. (arXiv:2006.11239), Salimans and Ho on v prediction (arXiv:2202.00512); weights by the signal-to-noise ratio:
Hang et al. (arXiv:2303.09556), their soft form: Crowson et al. (arXiv:2401.11605); zero terminal SNR: Lin et al.
(arXiv:2305.08891); input perturbation: Ning et al. (arXiv:2301.11706).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from attrs import field, frozen

from trainyard.trainer.diffusion.families.parts.schedule import prediction
from trainyard.trainer.diffusion.noise import STEPS, Noised, gaussian, spread, uniform

if TYPE_CHECKING:
    from schemas.diffusion import Options


#: What a sampler's configuration says of the schedule that it samples.
_SCHEDULE = (
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "num_train_timesteps",
    "rescale_betas_zero_snr",
)


@frozen(kw_only=True)
class Ddpm:
    """Noise for models of `prediction` `epsilon` or `v_prediction`."""

    #: (1000,) fp32: which part of the variance is signal at each timestep.
    signal: torch.Tensor
    prediction: str
    #: (1000,) fp64: how often each timestep is drawn, beside the others.
    often: torch.Tensor = field(factory=lambda: torch.ones(STEPS, dtype=torch.float64))
    segmented: bool = True
    snr_gamma: float | None = None
    soft: bool = False
    #: Strength of noise that is the same all over a channel, and how often a sample has it.
    offset: float = 0.0
    offset_often: float = 1.0
    #: More noise in what is shown than in the target; falls to nothing in so many steps, where that is not 0.
    perturbation: float = 0.0
    perturbation_steps: int = 0

    @classmethod
    def of(cls, options: "Options", scheduler: Mapping[str, Any]) -> "Ddpm":
        """As the options and the configuration of the model's scheduler say."""
        from diffusers import DDPMScheduler

        changed = {"rescale_betas_zero_snr": True} if options.rescale_betas_zero_snr else {}
        schedule = DDPMScheduler.from_config({**_schedule(scheduler), **changed})
        return cls(
            signal=schedule.alphas_cumprod.float(),
            prediction=prediction(options, scheduler),
            often=_often(options),
            segmented=not options.disable_segmented_timestep_sampling,
            snr_gamma=options.snr_gamma,
            soft=options.use_soft_min_snr,
            offset=options.noise_offset if options.offset_noise else 0.0,
            offset_often=options.noise_offset_probability,
            perturbation=options.input_perturbation,
            perturbation_steps=options.input_perturbation_steps,
        )

    def draw(self, latents: torch.Tensor, generator: torch.Generator, *, step: int = 0) -> Noised:
        """See `noise.Noise.draw`."""
        latents = latents.float()
        timesteps = self.timesteps(len(latents), generator)
        noise = gaussian(latents, generator)
        if self.offset:
            noise = noise + self._offset(latents, generator)
        shown = noise
        strength = self.perturbation * self._left(step)
        if strength:
            shown = noise + strength * gaussian(latents, generator)
        signal = self.signal[timesteps.cpu()]
        kept, lost = spread(signal.sqrt(), latents), spread((1 - signal).sqrt(), latents)
        ratio = (lost / kept).flatten()
        return Noised(
            latents=kept * latents + lost * shown,
            timesteps=timesteps.to(latents.device),
            target=noise if self.prediction == "epsilon" else kept * noise - lost * latents,
            weights=self.weights(ratio),
            ratio=ratio,
        )

    def timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """(count,): whole numbers from 0 to 999."""
        below = self.often.cumsum(0).to(generator.device)
        drawn = uniform(count, generator, self.segmented) * below[-1]
        return torch.searchsorted(below, drawn, right=True).clamp(max=STEPS - 1)

    def weights(self, ratio: torch.Tensor) -> torch.Tensor:
        """(b,): min-SNR weights of samples with so much noise for each part of signal; 1 without `snr_gamma`."""
        if self.snr_gamma is None:
            return torch.ones_like(ratio)
        # For the loss in terms of the picture: min(SNR, gamma), softly gamma · SNR / (gamma + SNR); here over SNR.
        share = self.snr_gamma * ratio**2
        found = 1 / (1 + 1 / share) if self.soft else share.clamp(max=1.0)
        return found if self.prediction == "epsilon" else found / (1 + ratio**2)

    def _offset(self, latents: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        shape = (*latents.shape[:2], *(1,) * (latents.ndim - 2))
        chosen = torch.rand(len(latents), generator=generator, device=generator.device) < self.offset_often
        drawn = torch.randn(shape, generator=generator, device=generator.device)
        return self.offset * spread(chosen, latents) * drawn.to(latents.device)

    def _left(self, step: int) -> float:
        """Which part of the perturbation is left after so many steps."""
        return max(0.0, 1 - step / self.perturbation_steps) if self.perturbation_steps else 1.0


def _schedule(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    return {name: scheduler[name] for name in _SCHEDULE if name in scheduler}


def _often(options: "Options") -> torch.Tensor:
    """(1000,): 1, and `timestep_bias_multiplier` for the timesteps that are meant."""
    often = torch.ones(STEPS, dtype=torch.float64)
    meant = round(options.timestep_bias_portion * STEPS)
    parts = {
        "earlier": slice(0, meant),
        "later": slice(STEPS - meant, STEPS),
        "range": slice(int(options.timestep_bias_begin), int(options.timestep_bias_end)),
    }
    if options.timestep_bias_strategy in parts:
        often[parts[options.timestep_bias_strategy]] *= options.timestep_bias_multiplier
    return often
