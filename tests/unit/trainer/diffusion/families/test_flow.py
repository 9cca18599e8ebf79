"""Noise for models of flow: timesteps, their shift, and the target."""

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from trainyard.trainer.diffusion.families.parts.flow import AutoShift, Flow
from trainyard.trainer.failures import ConfigError

MANY = torch.zeros(4096, 1, 2, 2)


def drawn(options, latents=MANY, scheduler=None, seed=1):
    return Flow.of(options, scheduler or {}).draw(latents, torch.Generator().manual_seed(seed))


def test_noised_latents_and_target_are_those_of_the_schedulers_own_noising(exact):
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(5))

    noised = drawn(exact(), latents)

    noise = noised.target + latents
    sigmas = noised.timesteps / 1000
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.timesteps, scheduler.sigmas = noised.timesteps, sigmas
    assert torch.allclose(noised.latents, scheduler.scale_noise(latents, noised.timesteps, noise), atol=1e-6)
    assert abs(noise.mean()) < 0.1 and abs(noise.std() - 1) < 0.1
    # One Euler step by the target from any timestep leads to the picture.
    back = noised.latents - sigmas.reshape(-1, 1, 1, 1) * noised.target
    assert torch.allclose(back, latents, atol=1e-5)
    assert torch.allclose(noised.ratio, sigmas / (1 - sigmas))


def test_the_same_generator_draws_the_same_and_another_something_else(exact):
    first, again, other = (drawn(exact(), seed=seed) for seed in (1, 1, 2))

    assert torch.equal(first.latents, again.latents) and torch.equal(first.timesteps, again.timesteps)
    assert not torch.equal(first.timesteps, other.timesteps)


def test_timesteps_are_sigmoids_of_gaussian_numbers_as_wide_as_asked(exact):
    for scale in (1.0, 0.5):
        sigmas = drawn(exact(flow_schedule_shift=0.0, flow_sigmoid_scale=scale)).timesteps / 1000
        gaussian = torch.logit(sigmas)
        assert abs(gaussian.mean()) < 0.02 and abs(gaussian.std() - scale) < 0.02


def test_uniform_timesteps_are_spread_evenly(exact):
    sigmas = drawn(exact(flow_schedule_shift=0.0, flow_use_uniform_schedule=True)).timesteps / 1000

    counts = torch.histc(sigmas, 8, 0, 1)
    assert torch.allclose(counts, torch.full((8,), 512.0), atol=1)


def test_beta_timesteps_have_the_moments_of_that_distribution(exact):
    for alpha, beta in ((2.0, 2.0), (0.7, 3.0)):
        chosen = {"flow_use_beta_schedule": True, "flow_beta_schedule_alpha": alpha, "flow_beta_schedule_beta": beta}
        sigmas = drawn(exact(flow_schedule_shift=0.0, **chosen)).timesteps / 1000
        both = alpha + beta
        assert abs(sigmas.mean() - alpha / both) < 0.005
        assert abs(sigmas.var() - alpha * beta / (both**2 * (both + 1))) < 0.005


def test_custom_timesteps_and_those_of_schnell_are_drawn_as_they_are(exact):
    asked = drawn(exact(flow_custom_timesteps=(900.0, 100.0))).timesteps
    fast = drawn(exact(flux_fast_schedule=True)).timesteps

    assert sorted(set(asked.tolist())) == pytest.approx([100, 900])
    assert sorted(set(fast.tolist())) == [250, 500, 750, 1000]
    with pytest.raises(ConfigError, match="flux_fast_schedule"):
        drawn(exact(flux_fast_schedule=True, flow_use_uniform_schedule=True))


def test_a_shift_moves_timesteps_as_the_scheduler_moves_them(exact):
    plain = drawn(exact(flow_schedule_shift=0.0)).timesteps
    moved = drawn(exact(flow_schedule_shift=3.0)).timesteps

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    wanted = scheduler.config.shift * plain / 1000 / (1 + (scheduler.config.shift - 1) * plain / 1000)
    assert torch.allclose(moved / 1000, wanted, atol=1e-5)
    assert moved.mean() > plain.mean() + 100


def test_the_automatic_shift_is_that_of_the_pipeline_for_each_resolution(exact):
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    auto = exact(flow_schedule_auto_shift=True)
    for edge in (32, 128):
        latents = torch.zeros(64, 1, edge, edge)
        mu = calculate_shift(edge * edge // 4)
        scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        plain = drawn(exact(flow_schedule_shift=0.0), latents).timesteps / 1000
        wanted = scheduler.time_shift(mu, 1.0, plain)
        assert torch.allclose(drawn(auto, latents).timesteps / 1000, wanted, atol=1e-5)
    assert AutoShift.of({"base_shift": 1.0, "max_shift": 1.0}).shift(7) == pytest.approx(math.e)


def test_the_samples_of_a_batch_get_different_parts_of_the_way_unless_that_is_turned_off(exact):
    batch = torch.zeros(8, 1, 2, 2)
    options = {"flow_use_uniform_schedule": True, "flow_schedule_shift": 0.0}

    def parts(seed, **more):
        noised = drawn(exact(**options, **more), batch, seed=seed)
        return sorted((noised.timesteps * 8 / 1000).long().tolist())

    assert all(parts(seed) == list(range(8)) for seed in range(5))
    assert any(parts(seed, disable_segmented_timestep_sampling=True) != list(range(8)) for seed in range(5))
