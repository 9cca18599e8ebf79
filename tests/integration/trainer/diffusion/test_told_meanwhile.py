"""A checkpoint that stands while pictures are made is told between two of their steps, not when they are over."""

import json
import threading

import pytest

from common.folder import Pair

pytestmark = pytest.mark.slow


def test_in_the_middle_of_a_picture(job, monkeypatch):
    from trainyard.trainer.diffusion.validation.drawing import Drawing

    take = Drawing._take

    def when_it_stands(self, *given):
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        take(self, *given)

    monkeypatch.setattr(Drawing, "_take", when_it_stands)
    shown = {"validation_prompt": "a red circle", "validation_resolution": "32x32", "validation_num_inference_steps": 1}
    here = job("flux", max_train_steps=1, validation_step_interval=1, **shown)
    here.train()
    lines = (here.folder.attempt(Pair(1, 0)) / "events.jsonl").read_text().splitlines()
    told = [event["data"].get("phase", event["type"]) for event in map(json.loads, lines)]
    assert told[told.index("evaluating") :][:3] == ["evaluating", "checkpoint", "validation"]
