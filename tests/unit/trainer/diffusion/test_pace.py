"""The learning rate of a run: what each option of its schedule does to it."""

import pytest

from schemas.diffusion import Options
from trainyard.trainer.diffusion.pace import Pace

STEPS = 12


def rates(scheduler: str, **options) -> list[float]:
    """The rate of each step, and what it would be after the last."""
    told = Options(lr_scheduler=scheduler, learning_rate=1.0, max_train_steps=STEPS, **options)
    pace = Pace.of(told, [None] * STEPS)
    return [pace.rate(step) for step in range(STEPS + 1)]


def test_the_share_of_steps_that_warm_up_counts_where_no_number_is_given():
    assert rates("constant", lr_warmup_ratio=0.25)[:5] == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert rates("constant")[:2] == [1, 1]
    assert rates("constant", lr_warmup_ratio=0.25, lr_warmup_steps=2)[:3] == [0, 0.5, 1]


@pytest.mark.parametrize("scheduler", ["polynomial", "sine"])
def test_the_end_is_what_the_rate_comes_down_to(scheduler):
    assert min(rates(scheduler)) == pytest.approx(Options().lr_end)
    assert min(rates(scheduler, lr_end=0.125)) == pytest.approx(0.125)


def test_the_power_is_the_polynomial_s():
    half = STEPS // 2
    assert rates("polynomial", lr_power=3.0, lr_end=0.0)[half] == pytest.approx(0.5**3)
    assert rates("polynomial", lr_end=0.0)[half] == pytest.approx(0.5**0.8)


def test_cycles_are_restarts_of_the_cosine_and_waves_of_the_sine():
    thrice = rates("cosine_with_restarts", lr_num_cycles=3, lr_end=0.0)
    assert [step for step, rate in enumerate(thrice) if rate == 1] == [0, 4, 8]
    assert [step for step, rate in enumerate(rates("cosine_with_restarts", lr_end=0.0)) if rate == 1] == [0]
    waves = rates("sine", lr_num_cycles=2, lr_end=0.0)
    assert [step for step, rate in enumerate(waves) if rate == pytest.approx(0, abs=1e-12)] == [3, 9]
