"""A checkpoint that stands while an evaluation is under way is told in its middle, not when it is over."""

import json
import threading

import pytest

from common.folder import Pair

pytestmark = pytest.mark.slow


def test_in_the_middle_of_an_evaluation(here, monkeypatch):
    from trainyard.trainer.text.evaluation import Evaluation

    attempt = Evaluation._attempt

    def when_it_stands(self, some):
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        return attempt(self, some)

    monkeypatch.setattr(Evaluation, "_attempt", when_it_stands)
    here.tuning |= {"max_steps": 1, "eval_ratio": 0.5, "micro_batch_size": 2}
    here.train()
    lines = (here.folder.attempt(Pair(1, 0)) / "events.jsonl").read_text().splitlines()
    told = [event["data"].get("phase", event["type"]) for event in map(json.loads, lines)]
    assert told[told.index("training") :][:5] == ["training", "progress", "evaluating", "checkpoint", "validation"]
