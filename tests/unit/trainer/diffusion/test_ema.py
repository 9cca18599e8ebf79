"""The running mean of the weights."""

import pytest
import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion.ema import Average

CPU = torch.device("cpu")


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
    one.save(tmp_path)
    other.load(tmp_path)
    assert other._mean["w"].tolist() == one._mean["w"].tolist()
    assert 1.0 < one._mean["w"][0].item() < 1.0 + 2**-6


def test_a_mean_of_other_weights_is_not_taken_up(tmp_path):
    average(torch.nn.Parameter(torch.ones(3))).save(tmp_path)
    two = Average.of({n: torch.nn.Parameter(torch.ones(3)) for n in "wv"}, Options(), CPU)
    with pytest.raises(ValueError, match="v and 0 more are not in the checkpoint"):
        two.load(tmp_path)
