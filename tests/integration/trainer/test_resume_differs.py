"""A checkpoint that was written elsewhere, by other code, or by another job: gone on with and said, or refused."""

import json

import pytest

from trainyard.trainer.failures import ConfigError

pytestmark = pytest.mark.slow


def rewritten(here, **values):
    """The newest checkpoint as another machine would have written it; its record has no sum of its own."""
    path = here.output / "checkpoints" / "step-2" / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def begun(here):
    here.tuning["max_steps"] = 2
    here.train()
    here.tuning["max_steps"] = 3
    return here


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"threads": 7}, "threads differ: 7 then, 1 now"),
        ({"cpu": "AVX9"}, "cpu differ: AVX9 then, "),
        ({"versions": {"python": "3.99", "trainyard": "9.9"}}, "versions differ: python 3.99, trainyard 9.9 then, "),
    ],
    ids=["threads", "processor", "code"],
)
def test_what_is_not_as_it_was_is_said_and_a_close_curve_promised(begun, values, said):
    rewritten(begun, **values)
    assert begun.train().step == 3
    assert begun.said(said)
    assert begun.said("; the curve will be close to the undisturbed one, not equal")


def test_where_all_is_as_it_was_nothing_is_said(begun):
    begun.tuning["max_steps"] = 2
    begun.train()
    assert begun.said("goes on from step 2") and not begun.said("not equal")


def test_a_checkpoint_of_another_job_ends_the_run_and_names_both(begun):
    rewritten(begun, uid="0a" * 16)
    with pytest.raises(ConfigError, match=rf"holds the work of another job \(checkpoint.json of {'0a' * 16}\)"):
        begun.train()
