"""A run that was stopped and goes on has the losses, and the result, of one that was not."""

import shutil
import signal

import pytest
from safetensors.torch import load_file

from trainyard.trainer.failures import ConfigError

pytestmark = pytest.mark.slow

#: Everything that draws numbers, or keeps something from step to step.
CHANCE = {
    "caption_dropout_probability": 0.5,
    "gradient_accumulation_steps": 2,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 2,
    "num_train_epochs": 0,
    "max_train_steps": 6,
    "checkpoint_step_interval": 3,
}
LYCORIS = {"algo": "lokr", "factor": 4, "linear_dim": 4, "apply_preset": {"target_module": ["Attention"]}}
KINDS = {
    "lora": {"lora_dropout": 0.3, "optimizer": "optimi-lion", "use_ema": True, "ema_update_interval": 2},
    "lycoris": {"lora_type": "lycoris", "lycoris_config": LYCORIS, "mixed_precision": "fp16"},
    "full": {"model_type": "full", "mixed_precision": "bf16", "optimizer": "adamw_bf16", "use_ema": True},
}


def final(job) -> dict:
    return {str(p.relative_to(job.output)): load_file(p) for p in (job.output / "final").rglob("*.safetensors")}


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_checkpoint_a_run_goes_on_bit_for_bit(job, kind):
    whole, parts = (job("flux", folder, **CHANCE, **KINDS[kind]) for folder in ("whole", "parts"))
    for one in (whole, parts):
        if kind != "lora":
            one.options.pop("lora_dropout")
            one.options.pop("lora_rank")
    whole.train()
    parts.output.mkdir()
    (whole.output / "checkpoints").rename(parts.output / "checkpoints")
    (parts.output / "checkpoints" / "step-6").rename(parts.output / "checkpoints" / "step-6.tmp-1.0")
    parts.attempts = 1
    parts.train()
    assert parts.said("goes on from step 3") and not parts.said("not equal")
    assert parts.losses() == {step: loss for step, loss in whole.losses().items() if step > 3}
    one, other = final(whole), final(parts)
    assert one.keys() == other.keys()
    assert all(one[file][name].equal(other[file][name]) for file in one for name in one[file])


def test_a_stopped_process_leaves_a_checkpoint_and_goes_on_from_it(job):
    here, long = job("flux", "here"), job("flux", "long")
    for one in (here, long):
        one.options |= {"max_train_steps": 40, "gradient_accumulation_steps": 2}
    long.train()
    child = here.start()
    here.wait(child, "progress", 3)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=60) == 75, here.log
    (stop,) = here.events("checkpoint")
    assert stop["kind"] == "stop" and 3 <= stop["step"] < 40
    here.train()
    assert here.losses(1) | here.losses(2) == long.losses()


def test_the_oldest_checkpoints_are_removed(job):
    here = job("flux", max_train_steps=6, checkpoint_step_interval=2, checkpoints_total_limit=2)
    here.train()
    assert here.steps == ["step-4", "step-6"]
    everything = job("flux", "b", max_train_steps=6, checkpoint_step_interval=2, checkpoints_total_limit=0)
    everything.train()
    assert everything.steps == ["step-2", "step-4", "step-6"]


def test_a_checkpoint_of_another_job_is_begun_with_where_it_is_named(job):
    first, second = job("flux", "first", max_train_steps=2), job("flux", "second", max_train_steps=4)
    first.train()
    second.options["resume_from_checkpoint"] = str(first.output / "checkpoints" / "step-2")
    second.train()
    assert second.losses().keys() == {3, 4}
    second.options |= {"max_train_steps": 5}
    second.train()
    assert second.losses().keys() == {5}, "its own newest one comes first"
    second.options |= {
        "resume_from_checkpoint": str(first.output / "checkpoints" / "step-2"),
        "optimizer": "optimi-lion",
    }
    shutil.rmtree(second.output / "checkpoints")
    with pytest.raises(ConfigError, match="another kind of training: optimizer 'torch-adamw', here 'optimi-lion'"):
        second.train()
    second.options |= {"resume_from_checkpoint": "step-9"}
    with pytest.raises(ConfigError, match=r"resume_from_checkpoint: .*step-9 is no whole checkpoint"):
        second.train()
