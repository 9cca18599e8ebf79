"""Every optimizer that an option names moves weights as it is told; bf16 weights do not lose small steps."""

import warnings
from typing import get_args

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from schemas.diffusion import Options
from schemas.diffusion.optimizer_options import OptimizerName
from trainyard.trainer.diffusion.optimizers import NAMES, keeps_small_steps, make_optimizer
from trainyard.trainer.diffusion.stochastic import StochasticAdamW, rounded
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.optimizer_file import OPTIMIZER, read_optimizer, save_optimizer


def moved(name: str, steps: int = 3, **options) -> torch.Tensor:
    """How far a weight of 1 went, of gradients of 1."""
    weight = torch.nn.Parameter(torch.ones(8, 8))
    made = make_optimizer(Options(optimizer=name, learning_rate=0.01, **options), [weight], seed=0)
    for _ in range(steps):
        weight.grad = torch.ones_like(weight)
        made.step()
        made.zero_grad()
    return 1 - weight.detach()


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
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
    three = Options(optimizer="bnb-ademamix", adam_beta1=0.7, adam_beta2=0.8)
    assert make_optimizer(three, [weight], seed=0).param_groups[0]["betas"] == (0.7, 0.8, 0.9999)


@pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")
@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_resumed_optimizer_goes_on_bit_for_bit(name, tmp_path):
    def run(resumed_at: int | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        kind = torch.bfloat16 if name == "adamw_bf16" else torch.float32
        weights = [torch.nn.Parameter(torch.randn(shape, dtype=kind)) for shape in ((64, 128), (5,))]
        options = Options(optimizer=name, learning_rate=0.01)
        made = make_optimizer(options, weights, 0)
        for n in range(6):
            if n == resumed_at:
                with (tmp_path / OPTIMIZER).open("wb") as file:
                    save_optimizer(made.state_dict(), torch.amp.GradScaler("cpu", enabled=False), file)
                made = make_optimizer(options, weights, 0)
                made.load_state_dict(read_optimizer(tmp_path, torch.device("cpu"))["optimizer"])
            for weight in weights:
                weight.grad = torch.sin(torch.arange(weight.numel()) * (n + 1.0)).view_as(weight).to(kind)
            made.step()
        return weights

    assert all(one.equal(other) for one, other in zip(run(None), run(3), strict=True))


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
    # what a GPU writes where there is no number: all bits of it
    of_a_gpu = torch.tensor([0x7FFFFFFF, -1], dtype=torch.int32).view(torch.float32)
    assert rounded(of_a_gpu, generator).isnan().all()


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


class Counted(TorchDispatchMode):
    """Counts what torch is asked to compute or to copy; a view of something is none."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = ("view", "empty", "split", "detach", "unbind", "select", "alias")
        self.count += not func.overloadpacket.__name__.startswith(views)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("kind", "most"), [(torch.bfloat16, 40), (torch.float32, 12)])
def test_many_small_tensors_cost_as_many_operations_as_one(kind, most):
    weights = [torch.nn.Parameter(torch.ones(n, 3, dtype=kind)) for n in range(1, 201)]
    made = StochasticAdamW(weights)
    for _ in range(2):
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        with Counted() as counted:
            made.step()
    assert counted.count <= most
    assert set(made.state_dict()["state"][0]) == {"exp_avg", "exp_avg_sq"}, "as checkpoints of before have them"
    assert made.state_dict()["param_groups"][0]["steps"] == 2


def test_tensors_of_all_shapes_and_types_are_each_moved_by_their_own_gradient():
    torch.manual_seed(0)
    shapes = [(3,), (70_000,), (5, 4), (131_072,), (2, 3, 1, 2)]
    starts = [torch.randn(shape) for shape in shapes] + [torch.randn(6, 5).T]
    kinds = [torch.float32, torch.bfloat16, torch.float32, torch.bfloat16, torch.bfloat16, torch.float16]
    ours = [torch.nn.Parameter(start.to(kind)) for start, kind in zip(starts, kinds, strict=True)]
    theirs = [torch.nn.Parameter(each.detach().float()) for each in ours]
    idle = torch.nn.Parameter(torch.ones(2))
    pair = StochasticAdamW([*ours, idle], lr=0.03), torch.optim.AdamW(theirs, lr=0.03)
    for one, other in zip(ours, theirs, strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.float()
    for made in pair:
        made.step()
    for one, other in zip(ours, theirs, strict=True):
        spacing = 1e-6 if one.dtype is torch.float32 else torch.finfo(one.dtype).eps
        torch.testing.assert_close(one.float(), other, rtol=spacing, atol=1e-6)
    assert idle.tolist() == [1, 1]


@pytest.mark.parametrize("name", [name for name in get_args(OptimizerName) if name.startswith("optimi-")])
def test_many_small_tensors_are_taken_at_once_and_moved_as_one_by_one(name):
    def after(**more):
        torch.manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(n, 4)) for n in range(1, 6)]
        made = make_optimizer(Options(optimizer=name, learning_rate=0.01, **more), weights, 0)
        for _ in range(3):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            made.step()
        return made.param_groups[0]["foreach"], weights

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at_once, found = after()
    one_by_one, wanted = after(optimizer_config="foreach=False,triton=False")
    assert (at_once, one_by_one) == (True, False)
    torch.testing.assert_close(found, wanted)


def test_tensors_that_are_large_or_in_bf16_are_left_to_the_library():
    for weights in (torch.ones(2, 1 << 20), torch.ones(2, 4, dtype=torch.bfloat16)):
        made = make_optimizer(Options(optimizer="optimi-lion"), [torch.nn.Parameter(w) for w in weights], 0)
        assert made.param_groups[0]["foreach"] is None
