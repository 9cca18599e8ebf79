"""Two processes over gloo learn what one learns, and go on bit for bit."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from trainyard.trainer.checkpoints import complete

pytestmark = pytest.mark.slow
CUSTOM = {
    "lora": {"method": "lora", "precision": "fp32", "rank": 4, "lora_dropout": 0.0},
    "full": {"method": "full", "precision": "fp32"},
}


def prepared(new_job, name, method, processes=1, strategy="auto", **tuning):
    job = new_job(name)
    job.custom = dict(CUSTOM[method])
    job.tuning |= {"batch_size": 8, "micro_batch_size": 2, "max_steps": 10, "eval_ratio": 0.1} | tuning
    job.options["processes"], job.extra["strategy"] = processes, strategy
    return job


@pytest.mark.parametrize(
    ("method", "strategy", "packing"),
    [("lora", "auto", False), ("full", "ddp", True), ("lora", "fsdp", True), ("full", "fsdp", False)],
)
def test_the_curve_of_two_processes_is_that_of_one(new_job, method, strategy, packing):
    one = prepared(new_job, "one", method, packing=packing)
    two = prepared(new_job, "two", method, processes=2, strategy=strategy, packing=packing)
    for job in (one, two):  # an epoch ends with a single row: one of the processes has none
        job.rows([json.loads(line) for line in job.data.read_text().splitlines()[:63]])
    assert one.run() == 0, one.log
    assert two.run() == 0, two.log
    assert two.losses() == pytest.approx(one.losses(), rel=1e-3)
    for ours, theirs in zip(two.events("validation"), one.events("validation"), strict=True):
        assert ours["metrics"]["eval_tokens"] == theirs["metrics"]["eval_tokens"]
        assert ours["metrics"]["eval_loss"] == pytest.approx(theirs["metrics"]["eval_loss"], rel=1e-3)
    kinds = [event["type"] for event in two.events()]
    assert kinds.count("end") == kinds.count("artifact") == 1 and kinds[-1] == "end"
    assert two.steps == one.steps == ["step-10"]
    manifest = json.loads((two.output / "manifest.json").read_text())
    assert manifest["settings"]["processes"] == 2
    learned = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    ours, theirs = (load_file(job.output / "final" / learned) for job in (two, one))
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)
    held = "in shares" if strategy == "fsdp" else "a copy"
    assert any(held in data["message"] for data in two.events("log")), two.log


@pytest.mark.parametrize(("method", "strategy"), [("lora", "ddp"), ("full", "fsdp")])
def test_two_processes_go_on_bit_for_bit(new_job, method, strategy):
    whole, parts = (
        prepared(new_job, name, method, 2, strategy, save_steps=4, max_steps=8) for name in ("whole", "parts")
    )
    for job in (whole, parts):
        job.custom["lora_dropout"] = 0.3
    assert whole.run() == 0, whole.log
    parts.output.mkdir()
    shutil.copytree(whole.output / "checkpoints" / "step-4", parts.output / "checkpoints" / "step-4")
    assert complete(parts.output / "checkpoints" / "step-4")
    assert parts.run("2.0") == 0, parts.log
    assert "not equal" not in parts.log
    assert parts.losses("2.0") == {step: loss for step, loss in whole.losses().items() if step > 4}

    alone = prepared(new_job, "alone", method, save_steps=4, max_steps=8)
    alone.custom["lora_dropout"] = 0.3
    alone.output.mkdir()
    shutil.copytree(whole.output / "checkpoints" / "step-4", alone.output / "checkpoints" / "step-4")
    assert alone.run("2.0") == 0, alone.log
    assert "processes 2 → 1" in alone.log, "another number of processes is said"
    assert max(alone.losses("2.0")) == 8


def test_a_failure_of_every_process_is_told_once_and_a_strategy_that_can_not_be_is_refused(new_job):
    job = prepared(new_job, "bad", "lora", processes=2, strategy="fsdp", optimizer="adafactor")
    assert job.run() == 64, job.log
    (told,) = [data for data in job.events("log") if data.get("level") == "error"]
    assert "fsdp does not shard the state of adafactor" in told["message"]
    assert job.events()[-1]["type"] == "end"
