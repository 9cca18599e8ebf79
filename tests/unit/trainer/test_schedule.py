"""Steps and learning rates are plain arithmetic."""

import pytest

from trainyard.trainer.schedule import KINDS, learning_rate, total_steps, warmup_steps


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_rises_through_its_warmup_to_the_full_rate(kind):
    rates = [learning_rate(kind, 0.4, step, 10, 4) for step in range(10)]
    assert rates[:5] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert rates[4:] == sorted(rates[4:], reverse=True)


@pytest.mark.parametrize(("kind", "half"), [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0), ("polynomial", 0.5)])
def test_half_way_each_kind_has_its_share(kind, half):
    assert learning_rate(kind, 1.0, 5, 10, 0) == pytest.approx(half, abs=1e-6)


def test_max_steps_decides_over_epochs():
    assert total_steps(10, 3, None) == 30
    assert total_steps(10, 3, 7) == 7
    assert total_steps(10, 0.25, None) == 3


def test_a_number_of_warmup_steps_wins_over_a_share():
    assert warmup_steps(100, None, 0.031) == 4
    assert warmup_steps(100, 7, 0.5) == 7
    assert warmup_steps(5, 70, 0.0) == 5
