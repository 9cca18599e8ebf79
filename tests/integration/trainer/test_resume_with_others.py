"""A resume with other numbers than before: they hold from the checkpoint on, and are recorded and said."""

import json

import pytest

pytestmark = pytest.mark.slow


def test_another_rate_and_more_epochs_hold_from_the_checkpoint_on_and_are_recorded(here):
    here.tuning |= {"max_steps": None, "num_epochs": 1, "batch_size": 16, "lr_scheduler": "linear"}
    first = here.train().step
    assert first == here.events("progress")[0]["total_steps"] > 1

    here.tuning |= {"learning_rate": 4e-3, "num_epochs": 2.5}
    total = round(2.5 * first)
    assert here.train().step == total
    progress = here.events("progress")
    assert {data["total_steps"] for data in progress} == {total}
    rates = {data["step"]: data["learning_rate"] for data in progress}
    assert rates == pytest.approx({n: 4e-3 * (total - n + 1) / total for n in range(first + 1, total + 1)})
    assert here.said("learning_rate 0.001 → 0.004, num_epochs 1 → 2.5; the curve will be close")
    record = json.loads((here.output / "checkpoints" / f"step-{total}" / "checkpoint.json").read_text())
    for settings in (here.manifest["settings"], record["settings"]):
        assert (settings["learning_rate"], settings["num_epochs"]) == (4e-3, 2.5)
