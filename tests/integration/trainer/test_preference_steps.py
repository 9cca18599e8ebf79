"""Objective `dpo`, step by step: what spoils a model is not kept, what is changed holds, the reference is counted."""

import json

import pytest

from tests.tiny import PLAIN_TEXTS, make_tiny
from trainyard.trainer.failures import NanLoss

pytestmark = pytest.mark.slow
RATE, STEPS, LOGGED = (f"tuning_parameters.{name}" for name in ("learning_rate", "max_steps", "logging_steps"))


@pytest.fixture
def pairs(new_here):
    def make(name="dpo", **custom):
        job = new_here(name)
        job.rows(
            [
                {"prompt": f"What of {n}? ", "chosen": text, "rejected": f"no idea of {n % 7}"}
                for n, text in enumerate(PLAIN_TEXTS)
            ]
        )
        job.custom |= custom
        job.tuning |= {"objective": "dpo", "lr_scheduler": "constant", "max_steps": 4}
        return job

    return make


def asked(job, name, **values):
    """A change that the run finds at its first step's end."""
    record = {"format": 1, "attempt": f"{job.attempts + 1}.0", "id": name, "command": "change", "values": values}
    with job.folder.control.open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_a_change_of_the_rate_holds_from_the_next_step_and_is_repeated_on_resume(pairs):
    job = pairs()
    job.tuning |= {"save_steps": 1, "save_total_limit": 6, "max_steps": 6}
    asked(job, "c1", **{RATE: 5e-4, LOGGED: 2})
    asked(job, "c2", **{STEPS: 40})
    job.train()
    rates = {data["step"]: data["learning_rate"] for data in job.events("progress")}
    assert rates == {1: 1e-3, 2: 5e-4, 4: 5e-4, 6: 5e-4}
    taken, refused = job.events("ack")
    assert (taken["ok"], taken["step"]) == (True, 1)
    assert refused["ok"] is False and "max_steps can't be changed while a run of this objective" in refused["message"]
    assert job.manifest["changes"] == [{"step": 1, "values": {RATE: 5e-4, LOGGED: 2}}]

    for step in range(2, 7):
        path = job.output / "checkpoints" / f"step-{step}"
        path.rename(path.with_name(f"{path.name}.tmp-1.0"))
    job.changes = [{"step": 1, "values": {RATE: 5e-4, LOGGED: 2}}, {"step": 3, "values": {RATE: 1e-4}}]
    job.train()
    assert {data["step"]: data["learning_rate"] for data in job.events("progress")} == {2: 5e-4, 4: 1e-4, 6: 1e-4}


def test_a_model_that_a_step_spoilt_is_not_kept_and_what_was_before_is(pairs):
    job = pairs(method="full")
    job.model = make_tiny("gpt2", job.output.parent / "gpt2")
    job.tuning |= {"max_steps": 2}
    job.train()
    job.tuning |= {"max_steps": 6, "learning_rate": 1e30, "max_grad_norm": 0, "save_steps": 1, "save_total_limit": 1}
    asked(job, "c1", **{RATE: 1e30})
    with pytest.raises(NanLoss, match=r"step \d left weights|step 4 came to a loss of"):
        job.train()
    import torch
    from safetensors.torch import load_file

    newest = max(job.steps, key=lambda name: int(name.removeprefix("step-")))
    weights = load_file(job.output / "checkpoints" / newest / "model.safetensors")
    assert all(torch.isfinite(w).all() and w.abs().max() < 1e10 for w in weights.values()), newest


def test_a_gradient_that_is_no_number_is_not_applied(pairs, monkeypatch):
    import torch

    job = pairs()
    job.train()
    job.tuning |= {"max_steps": 6}
    backward, calls = torch.Tensor.backward, []

    def spoilt(self, *given, **more):
        backward(self, *given, **more)
        calls.append(1)
        for p in [o for o in MADE if o.grad is not None][:1]:
            p.grad.fill_(float("nan"))

    MADE: list = []
    from trainyard.trainer.text.preference import trainers

    made = trainers.make_optimizer

    def remembered(settings, groups, model):
        MADE.extend(p for group in groups for p in group["params"])
        return made(settings, groups, model)

    monkeypatch.setattr(trainers, "make_optimizer", remembered)
    monkeypatch.setattr(torch.Tensor, "backward", spoilt)
    with pytest.raises(NanLoss, match="step 5 came to a gradient that is no number"):
        job.train()
    assert calls and job.steps == ["step-4"]


@pytest.mark.parametrize(("method", "copies"), [("full", 1), ("lora", 0)])
def test_the_copy_that_a_whole_model_is_compared_with_is_counted(pairs, method, copies):
    job = pairs(method=method)
    job.tuning["max_steps"] = 1
    job.train()
    (parts,) = [event["preflight"]["memory"]["parts"] for event in job.events("log") if "preflight" in event]
    assert parts["reference"] == copies * (parts["trainable"] + parts["weights"])
    assert abs(job.manifest["memory"]["error"]) < 0.25


def test_two_processes_learn_what_one_learns(pairs, new_job):
    one, two = pairs("one"), new_job("two")
    two.data.write_text(one.data.read_text())
    two.custom, two.tuning = one.custom, one.tuning
    two.options["processes"] = 2
    one.train()
    assert two.run() == 0, two.log
    assert two.losses() == pytest.approx(one.losses(), rel=1e-3) and len(two.losses()) == 4
    assert len(two.events("artifact")) == 1 and two.steps == ["step-4"]
