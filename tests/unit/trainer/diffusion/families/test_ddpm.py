"""Noise for models with a noise schedule: targets, weights, and which timesteps are drawn."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from trainyard.trainer.diffusion.families.parts.ddpm import Ddpm

SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
LATENTS = torch.randn(16, 4, 8, 8, generator=torch.Generator().manual_seed(5))


def drawn(options, latents=LATENTS, seed=1, step=0, **schedule):
    return Ddpm.of(options, SCHEDULE | schedule).draw(latents, torch.Generator().manual_seed(seed), step=step)


@pytest.mark.parametrize("zero", [False, True])
def test_noised_latents_and_the_velocity_are_those_of_the_stock_scheduler(exact, zero):
    scheduler = DDPMScheduler(**SCHEDULE, rescale_betas_zero_snr=zero)

    noise = drawn(exact()).target
    noised = drawn(exact(prediction_type="v_prediction", rescale_betas_zero_snr=zero))

    assert torch.allclose(noised.latents, scheduler.add_noise(LATENTS, noise, noised.timesteps), atol=1e-6)
    assert torch.allclose(noised.target, scheduler.get_velocity(LATENTS, noise, noised.timesteps), atol=1e-6)
    assert abs(noise.std() - 1) < 0.05
    if not zero:
        assert torch.allclose(1 / noised.ratio**2, compute_snr(scheduler, noised.timesteps), rtol=1e-4)


def test_the_last_timestep_has_no_signal_with_zero_snr(exact):
    options = exact(prediction_type="v_prediction", rescale_betas_zero_snr=True, snr_gamma=5.0)
    noise = Ddpm.of(options, SCHEDULE)

    weights = noise.weights(((1 - noise.signal) / noise.signal).sqrt())
    assert noise.signal[-1] == 0 and weights.isfinite().all()
    assert Ddpm.of(exact(), SCHEDULE).signal[-1] > 0.001


def test_the_models_own_scheduler_says_what_it_predicts_unless_the_options_do(exact):
    assert Ddpm.of(exact(), SCHEDULE | {"prediction_type": "v_prediction"}).prediction == "v_prediction"
    assert Ddpm.of(exact(), SCHEDULE).prediction == "epsilon"
    assert (
        Ddpm.of(exact(prediction_type="epsilon"), SCHEDULE | {"prediction_type": "v_prediction"}).prediction
        == "epsilon"
    )


def test_min_snr_weights_are_those_of_the_stock_training_script(exact):
    for prediction in ("epsilon", "v_prediction"):
        noised = drawn(exact(prediction_type=prediction, snr_gamma=5.0))
        snr = compute_snr(DDPMScheduler(**SCHEDULE), noised.timesteps)
        wanted = torch.minimum(snr, torch.full_like(snr, 5.0)) / (snr if prediction == "epsilon" else snr + 1)
        assert torch.allclose(noised.weights, wanted, rtol=1e-4)
    assert torch.equal(drawn(exact()).weights, torch.ones(16))


def test_soft_min_snr_weights_follow_the_hard_ones_without_their_corner(exact):
    noised = drawn(exact(snr_gamma=5.0, use_soft_min_snr=True))

    snr = noised.ratio**-2
    assert torch.allclose(noised.weights, 5 / (snr + 5), rtol=1e-4)


def test_offset_noise_moves_whole_channels_of_as_many_samples_as_asked(exact):
    plain = drawn(exact()).target
    all_of_them = drawn(exact(offset_noise=True, noise_offset=0.5, noise_offset_probability=1.0))
    some = drawn(exact(offset_noise=True, noise_offset=0.5, noise_offset_probability=0.25), LATENTS.repeat(32, 1, 1, 1))

    moved = all_of_them.target - plain
    assert torch.allclose(moved, moved[..., :1, :1].expand_as(moved), atol=1e-6)
    assert 0.3 < moved[..., 0, 0].std() < 0.7
    share = (some.target.mean((2, 3)).abs().amax(1) > 0.45).float().mean()
    assert 0.1 < share < 0.45


def test_input_perturbation_is_in_what_is_shown_and_not_in_the_target_and_fades(exact):
    plain = drawn(exact())

    def extra(step, **more):
        noised = drawn(exact(input_perturbation=0.3, **more), step=step)
        assert torch.equal(noised.target, plain.target)
        lost = (1 - 1 / (1 + plain.ratio**2)).sqrt()
        return ((noised.latents - plain.latents) / lost.reshape(-1, 1, 1, 1)).std().item()

    assert extra(0) == pytest.approx(0.3, rel=0.1)
    assert extra(500, input_perturbation_steps=1000) == pytest.approx(0.15, rel=0.1)
    assert extra(1000, input_perturbation_steps=1000) == 0
    assert extra(1000) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize(
    ("strategy", "meant"), [("earlier", (0, 250)), ("later", (750, 1000)), ("range", (400, 600)), ("none", (0, 500))]
)
def test_biased_timesteps_come_so_much_more_often(exact, strategy, meant):
    options = exact(
        timestep_bias_strategy=strategy,
        timestep_bias_multiplier=3.0,
        timestep_bias_begin=400,
        timestep_bias_end=600,
        timestep_bias_portion=0.25,
    )

    timesteps = drawn(options, torch.zeros(8192, 1, 1, 1)).timesteps

    length = meant[1] - meant[0]
    weight = 1 if strategy == "none" else 3
    wanted = weight * length / (weight * length + 1000 - length)
    inside = ((timesteps >= meant[0]) & (timesteps < meant[1])).float().mean()
    assert inside == pytest.approx(wanted, abs=0.01)
    assert timesteps.min() == 0 and timesteps.max() == 999
