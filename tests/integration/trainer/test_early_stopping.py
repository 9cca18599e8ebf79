"""Early stopping ends a run that gets no better; the best evaluation's model is kept and is the result."""

import json

import pytest

from tests.tiny import PLAIN_TEXTS

pytestmark = pytest.mark.slow


@pytest.fixture
def overfitting(here):
    """Few rows at a high rate: the held-out loss falls, then rises."""
    here.tuning |= {"max_steps": 60, "batch_size": 4, "eval_ratio": 0.5, "early_stopping_patience": 2}
    here.tuning |= {"learning_rate": 0.03, "lr_scheduler": "constant", "save_steps": 2, "save_total_limit": 1}
    here.rows([{"text": text} for text in PLAIN_TEXTS[:12]])
    return here


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_run_ends_early_and_its_result_is_the_best_one(overfitting, method):
    import torch
    from safetensors.torch import load_file

    job = overfitting
    job.custom["method"] = method
    job.tuning["eval_steps"] = 2
    if method == "full":
        job.tuning["learning_rate"] = 0.01
    result = job.train()
    evaluated = {v["step"]: v["metrics"]["eval_loss"] for v in job.events("validation") if v["step"]}
    best = min(evaluated, key=evaluated.__getitem__)
    assert result.step == best + 4 == max(evaluated) < 60, "two evaluations after the best one"
    assert job.steps == sorted([f"step-{best}", f"step-{result.step}"]), "the best is kept beside the newest"
    assert [c["step"] for c in job.events("checkpoint") if c["kind"] == "best"][-1] == best
    assert job.said(f"the held-out loss was least at step {best}")

    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    final, kept = (load_file(p / name) for p in (job.output / "final", job.output / "checkpoints" / f"step-{best}"))
    assert final.keys() == kept.keys() and all(torch.equal(final[k], kept[k]) for k in kept)
    manifest = job.manifest
    assert manifest["best"] == {"step": best, "eval_loss": evaluated[best], "since": 2}
    assert (manifest["step"], manifest["result_step"]) == (result.step, best)
    assert manifest["metrics"]["eval_loss"] == evaluated[best]
    card = (job.output / "final" / "README.md").read_text()
    assert f"| result of step | {best} |" in card and f"{evaluated[best]:.4f}" in card


def test_without_eval_steps_each_epoch_is_evaluated(overfitting):
    overfitting.tuning |= {"save_steps": None}
    overfitting.train()
    evaluated = [v["step"] for v in overfitting.events("validation")]
    assert evaluated[:3] == [0, 2, 4], "six rows in batches of four are two steps"


def test_what_was_best_is_known_after_a_resume(overfitting):
    job = overfitting
    job.tuning["eval_steps"] = 2
    job.train()
    whole, best = job.losses(), job.manifest["best"]
    first = job.output / "checkpoints" / f"step-{best['step']}"
    for path in (job.output / "checkpoints").iterdir():
        if path != first:
            path.rename(path.with_name(path.name + ".old-1.0"))
    assert json.loads((first / "checkpoint.json").read_text())["progress"]["evaluated"] <= best["step"]
    job.train()
    assert job.manifest["best"] == best
    assert job.losses() == {step: loss for step, loss in whole.items() if step > best["step"]}
