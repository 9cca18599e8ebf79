"""What contradicts the model is told by the run and by a deep validation alike, before anything is cached or loaded."""

import pytest

from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.failures import ConfigError, DiskFull
from trainyard.trainer.preflight import Asked, examined
from trainyard.trainer.secrets import Secrets

AT = "extra_parameters."
LOKR = {"algo": "lokr", "apply_preset": {"target_module": ["Elsewhere"]}}
#: Options that are wrong beside each other's right ones, and the paths that are told.
WRONG = {
    "of everything": (
        {
            "validation_prompt": "x",
            "validation_noise_scheduler": "ddim",
            "validation_using_datasets": True,
            "validation_preview": True,
            "validation_preview_decoder": "/no/such/decoder",
            "flux_lora_target": "unheard-of",
            "optimizer_config": "betas=1",
            "resume_from_checkpoint": "/no/such/checkpoint",
        },
        {
            *("validation_noise_scheduler", "validation_using_datasets", "validation_preview_decoder"),
            *("flux_lora_target", "optimizer_config", "resume_from_checkpoint"),
        },
    ),
    "modules": ({"peft_lora_target_modules": ["no_such_module"]}, {"peft_lora_target_modules"}),
    "lycoris": ({"lora_type": "lycoris", "lycoris_config": LOKR}, {"lycoris_config.apply_preset"}),
}


def deep(here):
    found, _ = examined(Asked(here.spec(), Secrets()))
    return {each["path"].removeprefix(AT): each["message"] for each in found.get("errors", ())}


@pytest.mark.parametrize("case", WRONG)
def test_all_of_it_is_told_by_both_before_anything_is_cached(job, case):
    options, paths = WRONG[case]
    here = job("flux", **options)
    if "lycoris_config" in options:
        here.options = {k: v for k, v in here.options.items() if k not in ("lora_rank", "lora_dropout")}
    told = deep(here)
    assert told.keys() == paths
    with pytest.raises(ConfigError) as e:
        here.train()
    assert {problem.partition(": ")[0].removeprefix(AT) for problem in e.value.problems} == paths
    assert {data["phase"] for data in here.events("phase")} <= {"validating", "downloading"}


def test_a_script_that_can_not_be_started_is_told_by_a_deep_validation(job):
    here = job("flux", post_checkpoint_script="/no/such/program {global_step}")
    assert "is no program that can be started" in deep(here)["post_checkpoint_script"]


def test_a_whole_model_that_the_disk_can_not_hold_is_refused_before_the_first_step(job, monkeypatch):
    asked = []

    def full(self, needed, what="a checkpoint"):
        asked.append((needed, what))
        raise DiskFull(f"{what} needs {needed}")

    monkeypatch.setattr(Checkpoints, "check_room", full)
    here = job("pixart_sigma", model_type="full")
    with pytest.raises(DiskFull, match="the result needs"):
        here.train()
    parts = (here.model / part for part in ("transformer", "vae", "text_encoder", "tokenizer"))
    bytes_ = sum(path.stat().st_size for part in parts for path in part.rglob("*") if path.is_file())
    assert asked == [(bytes_, "the result")]
    assert {data["phase"] for data in here.events("phase")} == {"validating"}
