"""What several processes send each other of a model: gradients of what is trained, and nothing of a frozen base."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from schemas.diffusion import Options
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.model.quantised import quantise
from trainyard.trainer.diffusion.step import Forward, shared
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.processes import World

CPU = torch.device("cpu")


@pytest.fixture
def world() -> Iterator[World]:
    """One process that takes itself for the first of two."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield World(CPU, size=2)
    dist.destroy_process_group()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many numbers of parameters and buffers were sent to the others, each time."""
    numbers, real = list[int](), dist._broadcast_coalesced

    def told(group, tensors, *more):
        numbers.append(sum(tensor.numel() for tensor in tensors))
        return real(group, tensors, *more)

    monkeypatch.setattr(dist, "_broadcast_coalesced", told)
    return numbers


class Small(torch.nn.Module):
    """A frozen layer, a buffer, and a layer that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.base = torch.nn.Linear(10, 10).requires_grad_(False)
        self.register_buffer("places", torch.ones(100))
        self.adapter = torch.nn.Linear(10, 3, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.adapter(self.base(values) + self.places[:10])


def test_only_what_is_trained_is_sent_once(world: World, sent: list[int]) -> None:
    small = Small()
    both = shared(small, world)
    for _ in range(2):
        both(torch.ones(2, 10)).sum().backward()
    assert sent == [30] and small.adapter.weight.grad.any()
    assert shared(small, World.alone(CPU)) is small


@pytest.mark.slow
def test_a_base_in_8_bits_is_shared_too(
    world: World, sent: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, family = shared_tiny("flux", tmp_path_factory), families.find("flux")
    options = Options(model_family="flux", model_type="lora", lora_rank=4, base_model_precision="int8-quanto")
    weights, precision = Weights(name="tiny", root=Path(folder)), Precision.of(options, CPU)
    denoiser = quantise(family.denoiser(weights, options, CPU, precision.held), options, CPU)
    trained = put_on(denoiser, family, weights, options, precision)
    shared(Forward(family, trained), world)
    assert sent == [sum(parameter.numel() for parameter in trained.parameters.values())]
