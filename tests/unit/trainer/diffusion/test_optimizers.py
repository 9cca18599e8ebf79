"""Every optimizer that an option names moves weights as it is told; bf16 weights do not lose small steps."""

from typing import get_args

import pytest
import torch

from schemas.diffusion import Options
from schemas.diffusion.optimizer_options import OptimizerName
from trainyard.trainer.diffusion.optimizers import NAMES, keeps_small_steps, make_optimizer
from trainyard.trainer.diffusion.stochastic import StochasticAdamW, rounded
from trainyard.trainer.failures import ConfigError


def moved(name: str, steps: int = 3, **options) -> torch.Tensor:
    """How far a weight of 1 went, of gradients of 1."""
    weight = torch.nn.Parameter(torch.ones(8, 8))
    made = make_optimizer(Options(optimizer=name, learning_rate=0.01, **options), [weight], seed=0)
    for _ in range(steps):
        weight.grad = torch.ones_like(weight)
        made.step()
        made.zero_grad()
    return 1 - weight.detach()


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_name_of_the_option_moves_weights_against_the_gradient(name):
    assert name in NAMES
    assert (moved(name) > 0).all()


@pytest.mark.parametrize("name", ["adamw_bf16", "torch-adamw", "optimi-lion", "bnb-adamw8bit"])
def test_weight_decay_and_rate_are_what_the_options_say(name):
    assert (moved(name, adam_weight_decay=10.0) > moved(name, adam_weight_decay=0.0)).all()
    torch.testing.assert_close(moved(name, steps=1, adam_weight_decay=0.0), torch.full((8, 8), 0.01), rtol=0.02, atol=0)


def test_betas_epsilon_and_further_words_reach_the_optimizer():
    weight = torch.nn.Parameter(torch.ones(2))
    made = make_optimizer(
        Options(
            optimizer="torch-adamw", adam_beta1=0.5, adam_beta2=0.6, adam_epsilon=0.25, optimizer_config="amsgrad=True"
        ),
        [weight],
        seed=0,
    )
    group = made.param_groups[0]
    assert (group["betas"], group["eps"], group["amsgrad"]) == ((0.5, 0.6), 0.25, True)
    both = Options(optimizer="optimi-lion", optimizer_beta1=0.7, optimizer_beta2=0.8)
    group = make_optimizer(both, [weight], seed=0).param_groups[0]
    assert (group["beta1"], group["beta2"]) == (0.7, 0.8)


@pytest.mark.parametrize("config", ["sped=3", "amsgrad", "betas=3"])
def test_words_that_an_optimizer_does_not_know_are_refused(config):
    with pytest.raises(ConfigError, match=r"extra_parameters\.optimizer_config: .*"):
        make_optimizer(
            Options(optimizer="torch-adamw", optimizer_config=config), [torch.nn.Parameter(torch.ones(2))], 0
        )


def test_rounding_at_random_keeps_the_mean_and_what_is_no_number():
    generator = torch.Generator().manual_seed(0)
    value = torch.full((200_000,), 1 + 2**-10)  # between two numbers of bf16, an eighth of the way up
    found = rounded(value, generator)
    assert set(found.float().unique().tolist()) == {1.0, 1 + 2**-7}
    assert found.float().mean().item() == pytest.approx(1 + 2**-10, abs=1e-4)
    odd = torch.tensor([float("inf"), float("-inf"), float("nan"), 0.0, -1.5])
    assert rounded(odd, generator).isfinite().tolist() == [False, False, False, True, True]
    assert rounded(odd, generator)[3:].tolist() == [0.0, -1.5]


def test_small_steps_count_in_bf16_with_random_rounding_alone():
    def after(kind, **more) -> float:
        weight = torch.nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
        made = kind([weight], lr=1e-4, weight_decay=0.0, **more)
        for _ in range(50):
            weight.grad = torch.ones_like(weight)
            made.step()
        return weight.float().mean().item()

    assert after(torch.optim.AdamW) == 1.0
    assert after(StochasticAdamW) == pytest.approx(1 - 50e-4, rel=2e-4)
    assert keeps_small_steps("adamw_bf16") and keeps_small_steps("optimi-lion") and not keeps_small_steps("torch-adamw")


def test_fp32_weights_are_trained_as_by_torchs_adamw():
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 64)) for _ in range(2))
    words = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    pair = StochasticAdamW([ours], **words), torch.optim.AdamW([theirs], **words)
    for n in range(5):
        for weight, made in zip((ours, theirs), pair, strict=True):
            weight.grad = torch.sin(torch.arange(64.0) * (n + 1))
            made.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_the_rounding_follows_from_seed_and_step_alone():
    def run(seed: int, resumed_at: int | None) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.ones(512, dtype=torch.bfloat16))
        made = StochasticAdamW([weight], lr=1e-4, seed=seed)
        for n in range(6):
            if n == resumed_at:
                torch.rand(7)
                state = made.state_dict()
                made = StochasticAdamW([weight], lr=1e-4, seed=seed)
                made.load_state_dict(state)
            weight.grad = torch.ones_like(weight)
            made.step()
        return weight.detach()

    assert run(1, None).equal(run(1, 3))
    assert not run(1, None).equal(run(2, None))
