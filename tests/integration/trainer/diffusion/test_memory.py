"""A run of a notable model tells what a step will need, and its manifest how wrong that was."""

import pytest

from trainyard.trainer.diffusion.memory import planned

pytestmark = pytest.mark.slow


def test_the_manifest_has_the_estimate_the_peak_and_the_error_and_the_training_is_the_same(job, monkeypatch):
    small = job("pixart_sigma", "small", max_train_steps=2)
    small.train()
    assert list(small.manifest["memory"]) == ["peak_bytes"]

    monkeypatch.setattr(planned, "NOTABLE", 0)
    here = job("pixart_sigma", "notable", max_train_steps=2)
    here.train()
    memory = here.manifest["memory"]
    assert memory["estimate_bytes"] == sum(memory["parts"].values()) and memory["peak_bytes"] > 0
    assert memory["error"] == round(memory["estimate_bytes"] / memory["peak_bytes"] - 1, 4)
    assert abs(memory["error"]) < 0.5
    told = [data for data in here.events("log") if "preflight" in data]
    assert told[0]["preflight"]["memory"]["parts"] == memory["parts"]
    losses = [[data["loss"] for data in each.events("progress")] for each in (small, here)]
    assert losses[0] == losses[1]
