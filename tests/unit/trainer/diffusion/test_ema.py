"""The running mean of the weights."""

from threading import Event

import pytest
import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion.ema import Average, Behind

CPU = torch.device("cpu")


class Late(Behind):
    """Does nothing before it is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Event()

    def settle(self) -> None:
        self.wanted.set()
        super().settle()
        self.wanted.clear()

    def _update(self, *about) -> None:
        assert self.wanted.wait(60)
        super()._update(*about)


@pytest.fixture(params=["at once", "behind the training"], autouse=True)
def behind(request, monkeypatch):
    """Each test twice: as beside the weights, and as on the CPU with the weights on an accelerator."""
    if request.param == "behind the training":
        plain = Average.__init__

        def made(self, *about) -> None:
            plain(self, *about)
            self._behind = Late()

        monkeypatch.setattr(Average, "__init__", made)


def average(weight: torch.nn.Parameter, **options) -> Average:
    return Average.of({"w": weight}, Options(use_ema=True, **options), CPU)


def shown(one: Average, weight: torch.nn.Parameter) -> float:
    with one.shown():
        return weight.item()


def test_of_each_update_the_decay_is_kept_and_the_rest_is_new():
    weight = torch.nn.Parameter(torch.tensor(0.0))
    mean = average(weight, ema_decay=0.75)
    weight.data.fill_(4.0)
    mean.update(1)
    assert shown(mean, weight) == 1.0
    mean.update(2)
    assert shown(mean, weight) == 1.75
    assert weight.item() == 4.0, "the weights are as they were"


def test_only_every_so_many_steps_count():
    weight = torch.nn.Parameter(torch.tensor(0.0))
    mean = average(weight, ema_decay=0.75, ema_update_interval=3)
    weight.data.fill_(4.0)
    seen = []
    for step in range(1, 7):
        mean.update(step)
        seen.append(shown(mean, weight))
    assert seen == [0.0, 0.0, 1.0, 1.0, 1.0, 1.75]


def test_through_the_warm_up_it_is_the_weights_themselves():
    weight = torch.nn.Parameter(torch.tensor(0.0))
    mean = average(weight, ema_decay=0.5, ema_warmup_steps=2)
    seen = []
    for step in range(1, 4):
        weight.data.fill_(float(step))
        mean.update(step)
        seen.append(shown(mean, weight))
    assert seen == [1.0, 2.0, 2.5]


def test_it_is_kept_in_fp32_and_saved_exactly(tmp_path):
    weight = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    one, other = average(weight, ema_decay=0.999), average(weight)
    weight.data.fill_(1.5)
    for step in range(1, 9):
        one.update(step)
    weight.data.fill_(9.0)
    one.save(tmp_path)
    other.load(tmp_path)
    assert other._mean["w"].tolist() == one._mean["w"].tolist()
    assert 1.0 < one._mean["w"][0].item() < 1.0 + 2**-6


def test_a_mean_of_other_weights_is_not_taken_up(tmp_path):
    average(torch.nn.Parameter(torch.ones(3))).save(tmp_path)
    two = Average.of({n: torch.nn.Parameter(torch.ones(3)) for n in "wv"}, Options(), CPU)
    with pytest.raises(ValueError, match="v and 0 more are not in the checkpoint"):
        two.load(tmp_path)


def test_several_tensors_of_several_types_come_each_to_their_own_mean(tmp_path):
    weights = {
        str(n): torch.nn.Parameter(torch.zeros(n, 2, dtype=kind))
        for n, kind in enumerate((torch.float32, torch.bfloat16, torch.float32), start=1)
    }
    mean = Average.of(weights, Options(ema_decay=0.75), CPU)
    for step in (1, 2):
        for n, weight in enumerate(weights.values(), start=1):
            weight.data.fill_(4.0 * n)
        mean.update(step)
    with mean.shown():
        assert {name: weight.unique().tolist() for name, weight in weights.items()} == {
            "1": [1.75],
            "2": [3.5],
            "3": [5.25],
        }


def test_what_goes_wrong_behind_the_training_is_raised_by_who_waits_for_it():
    late = Behind()
    late.begin([(torch.ones(3), torch.ones(4))], 0.5)
    with pytest.raises(RuntimeError, match="size"):
        late.settle()
    late.settle()


@pytest.mark.parametrize("turned", [False, True])
def test_a_large_tensor_comes_nearer_in_every_place(turned):
    weight = torch.nn.Parameter(torch.zeros(1025, 1025, dtype=torch.bfloat16))
    if turned:
        weight = torch.nn.Parameter(torch.zeros(1025, 1026, dtype=torch.bfloat16).T)
    mean = average(weight, ema_decay=0.5)
    weight.data.copy_(torch.arange(weight.numel()).view(weight.shape) % 256)
    wanted = weight.detach() * 0.5
    mean.update(1)
    with mean.shown():
        assert weight.equal(wanted)
