"""The losses, each against its own formula."""

import pytest
import torch

from trainyard.trainer.diffusion.loss import huber_width, loss, losses
from trainyard.trainer.diffusion.noise import Noised

TARGET = torch.zeros(3, 1, 2, 2)
PREDICTED = torch.tensor([0.001, 1.0, 50.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2).to(torch.bfloat16)


def noised(weights=(1.0, 1.0, 1.0)):
    sigmas = torch.tensor([0.1, 0.5, 1.0])
    return Noised(TARGET, sigmas * 1000, TARGET, torch.tensor(weights), sigmas / (1 - sigmas))


def test_l2_is_the_mean_square_of_each_sample_weighted(exact):
    found = losses(PREDICTED, noised((1.0, 0.5, 2.0)), exact())

    assert torch.allclose(found, torch.tensor([1e-6, 0.5, 5000.0]), rtol=0.02)
    assert loss(PREDICTED, noised((1.0, 0.5, 2.0)), exact()) == found.mean()
    assert found.dtype == torch.float32


@pytest.mark.parametrize("kind", ["huber", "smooth_l1"])
def test_huber_losses_are_squares_near_nothing_and_distances_far_away(exact, kind):
    options = exact(loss_type=kind, huber_schedule="constant", huber_c=0.1)

    near, _, far = losses(PREDICTED, noised(), options)

    scale = 0.1 if kind == "huber" else 1.0
    assert near.item() == pytest.approx(scale * 1e-6 / 0.1, rel=0.02)
    assert far.item() == pytest.approx(scale * 2 * (50 - 0.1), rel=0.01)


def test_the_width_of_huber_losses_follows_the_noise_as_asked(exact):
    widths = {
        schedule: huber_width(noised(), exact(loss_type="huber", huber_schedule=schedule, huber_c=0.1))
        for schedule in ("constant", "exponential", "snr")
    }

    assert widths["constant"].tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert widths["exponential"].tolist() == pytest.approx([0.1**0.1, 0.1**0.5, 0.1])
    # (1 - c) / (1 + sigma / alpha)² + c, where 1 + sigma / alpha is 1 / (1 - sigma) for a flow.
    assert widths["snr"].tolist() == pytest.approx([0.9 * 0.81 + 0.1, 0.9 * 0.25 + 0.1, 0.1])
