"""What is said of the rows before a run."""

import pytest

from trainyard.trainer.text.tell import tell_held_out


@pytest.mark.parametrize(("held_out", "ratio", "warned"), [(0, 0.1, True), (1, 0.1, False), (0, 0.0, False)])
def test_a_share_of_rows_that_is_none_is_a_warning(attempt, held_out, ratio, warned):
    tell_held_out(attempt.report, 1, held_out, ratio)
    said = [e for e in attempt.data("log") if e["level"] == "warning"]
    assert bool(said) is warned
    if warned:
        assert "tuning_parameters.eval_ratio: 0.1 of 1 row is none" in said[0]["message"]
