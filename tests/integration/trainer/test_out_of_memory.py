"""Memory that runs out halves what is computed at once, one time; what is learned stays the same."""

import inspect
import json

import pytest

from trainyard.trainer.failures import OutOfMemory

pytestmark = pytest.mark.slow


@pytest.fixture
def tight(monkeypatch):
    """The model takes so many rows at once; torch raises its own error for more."""
    import torch
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def set_limit(rows: int, training: bool = True) -> None:
        def limited(self, input_ids=None, **more):
            if len(input_ids) > rows and self.training is training:
                torch.empty(1 << 60)
            return forward(self, input_ids=input_ids, **more)

        limited.__signature__ = inspect.signature(forward)
        monkeypatch.setattr(LlamaForCausalLM, "forward", limited)

    return set_limit


def test_the_micro_batch_is_halved_and_the_curve_is_that_of_the_smaller_one(new_here, tight):
    small = new_here("small")
    small.custom["lora_dropout"] = 0.1
    small.tuning |= {"batch_size": 8, "micro_batch_size": 4}
    small.train()
    large = new_here("large")
    large.custom["lora_dropout"] = 0.1
    large.tuning |= {"batch_size": 8, "micro_batch_size": 8, "save_steps": 3}
    tight(4)
    large.train()
    assert large.losses() == small.losses()
    assert large.said("out of memory after step 0 with micro_batch_size 8: it is 4 from here on")
    halved = [{"name": "micro_batch_size", "step": 0, "from": 8, "to": 4}]
    assert large.manifest["halved"] == halved
    settings = large.manifest["settings"]
    assert (settings["micro_batch_size"], settings["gradient_accumulation_steps"]) == (4, 2)

    record = json.loads((large.output / "checkpoints" / "step-3" / "checkpoint.json").read_text())
    assert record["accumulation"]["halved"] == halved
    (large.output / "checkpoints" / "step-6").rename(large.output / "checkpoints" / "step-6.tmp-1.0")
    large.train()
    assert large.losses() == {step: loss for step, loss in small.losses().items() if step > 3}
    assert not large.said("out of memory"), "the halved micro batch was kept"


@pytest.mark.parametrize(("micro", "limit", "words"), [(8, 2, "4, halved from 8 already"), (1, 0, "1:")])
def test_a_second_time_ends_the_job_and_says_what_helps(here, tight, micro, limit, words):
    here.tuning["micro_batch_size"] = micro
    tight(limit)
    with pytest.raises(OutOfMemory, match=rf"with micro_batch_size {words}.*gradient_checkpointing"):
        here.train()


def test_evaluation_halves_its_rows_too(here, tight):
    here.tuning |= {"micro_batch_size": 8, "eval_ratio": 0.2, "max_steps": 2}
    tight(4, training=False)
    here.train()
    assert here.manifest["halved"] == [{"name": "rows evaluated at once", "step": 0, "from": 8, "to": 4}]
    assert here.manifest["settings"]["micro_batch_size"] == 8
    assert len(here.events("validation")) == 2


def test_what_was_halved_in_evaluation_stays_so_after_a_resume(here, tight):
    here.tuning |= {"micro_batch_size": 8, "eval_ratio": 0.2, "eval_steps": 2, "max_steps": 4, "save_steps": 2}
    tight(4, training=False)
    here.train()
    (here.output / "checkpoints" / "step-4").rename(here.output / "checkpoints" / "step-4.tmp-1.0")
    here.train()
    assert not here.said("out of memory")
    assert [v["step"] for v in here.events("validation")] == [2, 4]
