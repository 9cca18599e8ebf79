"""Steps and learning rates are plain arithmetic."""

import pytest

from trainyard.trainer.schedule import KINDS, SHAPED_KINDS, Shape, learning_rate, total_steps, warmup_steps


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_rises_through_its_warmup_to_the_full_rate(kind):
    rates = [learning_rate(kind, 0.4, step, 10, 4) for step in range(10)]
    assert rates[:5] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(("kind", "half"), [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0), ("polynomial", 0.5)])
def test_half_way_each_kind_has_its_share(kind, half):
    assert learning_rate(kind, 1.0, 5, 10, 0) == pytest.approx(half, abs=1e-6)


@pytest.mark.parametrize("kind", SHAPED_KINDS)
def test_every_kind_begins_at_the_full_rate_and_none_leaves_its_range(kind):
    rates = [learning_rate(kind, 0.4, step, 40, 0, Shape(cycles=3, power=0.5, end=0.1)) for step in range(41)]
    assert rates[0] == pytest.approx(0.4)
    assert all(0 <= rate <= 0.4 + 1e-12 for rate in rates)


def test_restarts_begin_anew_and_the_last_one_ends():
    rates = [learning_rate("cosine_with_restarts", 1.0, step, 40, 0, Shape(cycles=4)) for step in range(41)]
    assert [step for step, rate in enumerate(rates) if rate == 1.0] == [0, 10, 20, 30]
    assert rates[5] == pytest.approx(0.5) and rates[40] == 0.0


def test_a_sine_goes_down_and_up_again_once_a_cycle():
    rates = [learning_rate("sine", 1.0, step, 40, 0, Shape(cycles=2, end=0.2)) for step in range(41)]
    assert rates[::10] == pytest.approx([1.0, 0.2, 1.0, 0.2, 1.0])


def test_power_and_end_shape_a_polynomial():
    assert learning_rate("polynomial", 1.0, 5, 10, 0, Shape(power=2.0, end=0.2)) == pytest.approx(0.2 + 0.8 / 4)
    assert learning_rate("polynomial", 1.0, 10, 10, 0, Shape(end=0.2)) == pytest.approx(0.2)
    assert learning_rate("cosine", 1.0, 10, 10, 0, Shape(end=0.2)) == pytest.approx(0.2)
    assert learning_rate("polynomial", 0.1, 3, 10, 0, Shape(end=0.2)) == pytest.approx(0.1), "an end above the rate"


def test_max_steps_decides_over_epochs():
    assert total_steps(10, 3, None) == 30
    assert total_steps(10, 3, 7) == 7
    assert total_steps(10, 0.25, None) == 3


def test_a_number_of_warmup_steps_wins_over_a_share():
    assert warmup_steps(100, None, 0.031) == 4
    assert warmup_steps(100, 7, 0.5) == 7
    assert warmup_steps(5, 70, 0.0) == 5
