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


@pytest.fixture
def spoilt(new_here, monkeypatch):
    """A job whose rate is so high that its first step leaves weights with which nothing has a loss any more."""
    from tests.tiny import make_tiny

    job = new_here("spoilt")
    job.model = make_tiny("gpt2", job.output.parent / "gpt2")
    job.custom = {"method": "full", "precision": "fp32"}
    job.tuning |= {"micro_batch_size": 8, "lr_scheduler": "constant", "save_steps": 2}
    return job


def test_weights_that_spoil_every_loss_are_not_kept(spoilt):
    spoilt.tuning |= {"max_steps": 2}
    spoilt.train()
    spoilt.tuning |= {"max_steps": 6, "learning_rate": 1e30, "save_total_limit": 1}
    with pytest.raises(NanLoss, match=r"step 4 .* was not taken; the steps since the last checkpoint had spoilt"):
        spoilt.train()
    assert spoilt.steps == ["step-2"]
    spoilt.tuning |= {"learning_rate": 1e-3}
    assert spoilt.train().step == 6, "a lower rate does hold"


@pytest.mark.parametrize("last", [6, 3], ids=["a regular checkpoint", "the end"])
def test_a_checkpoint_due_at_the_very_step_that_spoilt_the_model_is_not_written(spoilt, last):
    spoilt.tuning |= {"max_steps": 2}
    spoilt.train()
    spoilt.tuning |= {"max_steps": last, "learning_rate": 1e30, "save_steps": 1 if last == 6 else 100}
    spoilt.tuning |= {"save_total_limit": 1}
    with pytest.raises(NanLoss, match="step 3 left weights with which nothing has a loss"):
        spoilt.train()
    assert spoilt.steps == ["step-2"] and spoilt.events("checkpoint") == []
    assert spoilt.manifest["step"] == 2, "the result is that of the good run"


@pytest.mark.parametrize(("value", "good"), [(1e37, True), (float("inf"), False), (float("nan"), False)])
def test_one_number_that_is_none_among_all_parameters_is_seen(value, good):
    import torch

    from trainyard.trainer.text.step import numbers

    assert numbers([torch.ones(1000), torch.zeros(0), torch.tensor([[0.0, -value], [1.0, 2.0]])]) is good


def test_held_out_rows_without_a_loss_end_the_job(spoilt):
    spoilt.tuning |= {"max_steps": 3, "learning_rate": 1e30, "eval_ratio": 0.2, "eval_steps": 1}
    with pytest.raises(NanLoss, match="the held-out rows came to a loss of nan"):
        spoilt.train()
    assert not (spoilt.output / "final").exists()


def test_a_step_that_overflows_does_not_spoil_what_adalora_ranks_by(here, change_logits):
    import torch

    here.custom |= {"method": "peft", "precision": "fp16"}
    here.custom["peft"] = {"config": {"peft_type": "ADALORA", "tinit": 1, "tfinal": 1, "deltaT": 1}}
    here.tuning |= {"micro_batch_size": 8, "save_steps": 3}
    change_logits(2, lambda logits: logits * 300.0, until=2)
    here.train()
    assert here.events("progress")[1]["grad_norm"] is None
    allocator = torch.load(here.output / "checkpoints" / "step-3" / "rank_allocator.pt", weights_only=True)
    assert all(value.isfinite().all() for value in allocator["exp_avg_ipt"].values())
