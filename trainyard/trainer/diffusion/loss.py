"""How far what the model said is from what it should say."""

from typing import TYPE_CHECKING

import torch

from trainyard.trainer.diffusion.noise import STEPS, Noised

if TYPE_CHECKING:
    from schemas.diffusion import Options


def loss(predicted: torch.Tensor, noised: Noised, options: "Options") -> torch.Tensor:
    """The mean over the samples of a micro batch, each weighted; a scalar in fp32."""
    return losses(predicted, noised, options).mean()


def losses(predicted: torch.Tensor, noised: Noised, options: "Options") -> torch.Tensor:
    """The loss of each sample, (b,) in fp32.

    `predicted`: (b, c, h, w), of any precision. `huber` and `smooth_l1` are pseudo-Huber losses whose width follows
    `huber_schedule` (Khrapov et al., arXiv:2403.16728): the square near 0, the distance far from it.
    """
    apart = predicted.float() - noised.target
    if options.loss_type == "l2":
        each = apart**2
    else:
        width = huber_width(noised, options).reshape(-1, *(1,) * (apart.ndim - 1))
        each = 2 * (torch.sqrt(apart**2 + width**2) - width)
        if options.loss_type == "huber":
            each = width * each
    return each.flatten(1).mean(1) * noised.weights


def huber_width(noised: Noised, options: "Options") -> torch.Tensor:
    """(b,): where each sample's loss goes over from the square to the distance; `huber_c` at full noise."""
    least = options.huber_c
    if options.huber_schedule == "constant":
        return torch.full_like(noised.ratio, least)
    if options.huber_schedule == "exponential":
        return least ** (noised.timesteps.to(noised.ratio) / STEPS)
    return (1 - least) / (1 + noised.ratio) ** 2 + least
