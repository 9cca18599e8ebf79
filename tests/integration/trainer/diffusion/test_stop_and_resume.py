"""A run that was stopped and goes on has the losses, and the result, of one that was not."""

import hashlib
import json
import shutil
import signal

import pytest
from safetensors.torch import load_file, save_file

from tests.held import go_on_to, held
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
        one.options |= {"max_train_steps": 16, "gradient_accumulation_steps": 2}
    long.train()
    here.paths = [held(here.folder.path, 3)]
    child = here.start()
    here.wait(child, "progress", 3)
    child.send_signal(signal.SIGTERM)
    go_on_to(here.folder.path)
    assert child.wait(timeout=200) == 75, here.log
    (stop,) = here.events("checkpoint")
    assert stop["kind"] == "stop" and 3 <= stop["step"] < 16
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
    for name, value in (("mixed_precision", "bf16"), ("peft_lora_target_modules", ["to_q"])):
        third = job("flux", name, **{name: value, "resume_from_checkpoint": second.options["resume_from_checkpoint"]})
        with pytest.raises(ConfigError, match=f"another kind of training: {name} "):
            third.train()
    second.options |= {"resume_from_checkpoint": "step-9"}
    with pytest.raises(ConfigError, match=r"resume_from_checkpoint: .*step-9 is no whole checkpoint"):
        second.train()


@pytest.mark.parametrize("asked", ["latest", "checkpoint-2"])
def test_a_job_goes_on_from_an_earlier_one_that_has_its_folder_of_results(job, tmp_path, asked):
    first = job("flux", "first", max_train_steps=2, checkpoint_step_interval=1)
    second = job("flux", "second", max_train_steps=4, resume_from_checkpoint=asked, resume_from_folder=str(tmp_path))
    for one in (first, second):
        one.output = tmp_path / f"results-{one.folder.path.parent.name}"
    first.train()
    assert second.train().step == 4
    assert second.losses().keys() == {3, 4} and second.said(f"begins with {first.output / 'checkpoints' / 'step-2'}")
    second.options["max_train_steps"] = 5
    second.train()
    assert second.losses().keys() == {5}, "its own newest one comes first"


def test_a_checkpoint_whose_tensors_have_other_names_is_no_fault_of_ours(job):
    first, second = job("flux", "first", max_train_steps=1), job("flux", "second")
    first.train()
    checkpoint = first.output / "checkpoints" / "step-1"
    path = checkpoint / "trained.safetensors"
    save_file({f"older.{name}": tensor for name, tensor in load_file(path).items()}, path)
    record = json.loads((checkpoint / "checkpoint.json").read_text())
    record["files"]["trained.safetensors"] = [path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()]
    (checkpoint / "checkpoint.json").write_text(json.dumps(record))
    second.options["resume_from_checkpoint"] = str(checkpoint)
    with pytest.raises(ConfigError, match=r"resume_from_checkpoint: .*step-1 does not fit .*older\."):
        second.train()


def test_a_run_at_the_end_of_its_data_can_be_begun_again(job):
    here = job("flux", num_train_epochs=2, max_train_steps=0)
    here.entries = [{"id": "pictures", "instance_data_dir": str(here.pictures), "end_epoch": 2}]
    step = here.train().step
    shutil.rmtree(here.output / "final")
    assert here.train().step == step and (here.output / "final").is_dir()


def test_a_change_beyond_the_end_of_the_data_is_left_out(job):
    here = job("flux", num_train_epochs=1, max_train_steps=0)
    here.entries = [{"id": "pictures", "instance_data_dir": str(here.pictures), "end_epoch": 2}]
    here.changes = [
        {"step": 1, "values": {"tuning_parameters.num_epochs": 2}},
        {"step": 1, "values": {"tuning_parameters.num_epochs": 3}},
    ]
    assert here.train().step == 12
    assert here.said("the change after step 1 is left out: tuning_parameters.num_epochs: ")
    assert here.manifest["changes"] == here.changes[:1]
