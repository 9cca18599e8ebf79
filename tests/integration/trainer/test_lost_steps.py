"""A loss or a gradient that is no number is never learned from, and what was learned before it is kept."""

import inspect
import json

import pytest

from trainyard.trainer.failures import NanLoss

pytestmark = pytest.mark.slow


@pytest.fixture
def change_logits(monkeypatch):
    """From training step `first` on (of one micro batch each) the logits are changed; `until` is the last one."""
    from torch._subclasses.fake_tensor import FakeTensor
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def disturb(first, change, until=10**6):
        calls = 0

        def disturbed(self, **given):
            nonlocal calls
            found = forward(self, **given)
            learns = self.training and not isinstance(found.logits, FakeTensor)  # else it is being measured
            calls += learns
            if learns and first <= calls <= until:
                found.logits = change(found.logits)
            return found

        disturbed.__signature__ = inspect.signature(forward)
        monkeypatch.setattr(LlamaForCausalLM, "forward", disturbed)

    return disturb


def test_the_state_before_the_bad_step_is_kept_and_goes_on_as_if_nothing_had_been(new_here, change_logits, monkeypatch):
    whole, broken = new_here("whole"), new_here("broken")
    for job in (whole, broken):
        job.custom["lora_dropout"] = 0.1
        job.tuning["micro_batch_size"] = 8
    whole.train()
    with monkeypatch.context():
        change_logits(4, lambda logits: logits * float("nan"))
        with pytest.raises(NanLoss, match=r"step 4 came to a loss of nan .* was not taken; what was learned before is"):
            broken.train()
    assert broken.steps == ["step-3"]
    assert [c["kind"] for c in broken.events("checkpoint")] == ["stop"]
    record = json.loads((broken.output / "checkpoints" / "step-3" / "checkpoint.json").read_text())
    assert (record["step"], record["loader"]["index"]) == (3, 3)

    monkeypatch.undo()
    broken.train()
    assert broken.losses() == {step: loss for step, loss in whole.losses().items() if step > 3}


def test_a_gradient_that_is_no_number_stops_a_run_whose_loss_is_still_one(here, change_logits):
    import torch

    class Overflowing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, outer):
            return outer * float("inf")

    here.tuning |= {"max_grad_norm": 0, "micro_batch_size": 8}
    change_logits(2, Overflowing.apply)
    with pytest.raises(NanLoss, match=r"step 2 came to a loss of \d.* with a gradient of norm (nan|inf)"):
        here.train()
    assert here.steps == ["step-1"]


def test_an_fp16_step_that_overflows_its_loss_scale_is_skipped_and_a_run_of_them_stops(here, new_here, change_logits):
    here.custom["precision"] = "fp16"
    here.tuning |= {"micro_batch_size": 8}
    change_logits(3, lambda logits: logits * 300.0, until=4)
    here.train()
    norms = [p["grad_norm"] for p in here.events("progress")]
    assert norms[2] is None, "an infinite norm is told as null"
    assert None not in norms[4:] and len(norms) == 6

    endless = new_here("endless")
    endless.custom["precision"] = "fp16"
    endless.tuning |= {"micro_batch_size": 8, "max_steps": 40}
    change_logits(2, lambda logits: logits * 1e6)
    with pytest.raises(NanLoss):
        endless.train()
    assert endless.steps
