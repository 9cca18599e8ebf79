"""Options that do not go together are refused together, each at one of them."""

from typing import Any

import pytest
from attrs import evolve

from schemas.diffusion import Options
from schemas.diffusion.rules import against_prediction, contradictions

WHOLE = Options(model_family="flux", model_type="lora", max_train_steps=5, num_train_epochs=0)
EPSILON = {"model_family": "pixart_sigma"}
RULES: list[tuple[dict[str, Any], str, str]] = [
    ({"num_train_epochs": 1}, "num_train_epochs", "one of them must be 0"),
    ({"max_train_steps": 0}, "num_train_epochs", "give one of them"),
    ({"model_type": "full", "base_model_precision": "int8-quanto"}, "base_model_precision", "no_change would run"),
    ({"optimizer_beta1": 0.5}, "optimizer_beta1", "needs optimizer_beta2"),
    ({"optimizer_beta2": 0.5}, "optimizer_beta2", "needs optimizer_beta1"),
    ({"mixed_precision": "no"}, "optimizer", "torch-adamw would run"),
    ({"lora_type": "lycoris", "use_dora": True}, "use_dora", "is for lora_type standard"),
    ({"lora_type": "lycoris", "peft_lora_target_modules": ("a",)}, "peft_lora_target_modules", "lora_type standard"),
    ({"lycoris_config": "x"}, "lycoris_config", "is for lora_type lycoris"),
    ({"snr_gamma": 5}, "snr_gamma", "this one matches flows"),
    ({"offset_noise": True}, "offset_noise", "this one matches flows"),
    ({"timestep_bias_strategy": "later"}, "timestep_bias_strategy", "this one matches flows"),
    ({**EPSILON, "flow_schedule_shift": 1.0}, "flow_schedule_shift", "this one predicts epsilon"),
    ({**EPSILON, "flux_guidance_value": 2.0}, "flux_guidance_value", "is for family flux"),
    ({**EPSILON, "prediction_type": "v_prediction", "input_perturbation": 0.1}, "input_perturbation", "not v_pred"),
    ({**EPSILON, "use_soft_min_snr": True}, "use_soft_min_snr", "needs snr_gamma"),
    (
        {**EPSILON, "timestep_bias_strategy": "range", "timestep_bias_end": 0},
        "timestep_bias_begin",
        "not less than timestep_bias_end",
    ),
    (
        {"flow_use_uniform_schedule": True, "flow_use_beta_schedule": True},
        "flow_use_beta_schedule",
        "does not go with flow_use_uniform_schedule",
    ),
    ({"flow_custom_timesteps": (1.0,), "flux_fast_schedule": True}, "flux_fast_schedule", "drawn in one way"),
    ({"flux_guidance_mode": "random-range", "flux_guidance_min": 5}, "flux_guidance_min", "more than"),
    ({"validation_method": "external-script"}, "validation_external_script", "is required"),
    ({"validation_external_script": "x"}, "validation_external_script", "is used only with"),
    ({"validation_external_background": True}, "validation_external_background", "is used only with"),
    ({"post_checkpoint_script": "run {checkpoint}"}, "post_checkpoint_script", "{checkpoint} is not known"),
]


@pytest.mark.parametrize(("changes", "name", "words"), RULES, ids=[f"{name}={words}" for _, name, words in RULES])
def test_options_that_contradict_each_other(changes: dict[str, Any], name: str, words: str) -> None:
    assert dict(contradictions(WHOLE)) == {}
    found = dict(contradictions(evolve(WHOLE, **changes)))
    assert list(found) == [name] and words in found[name]


def test_all_of_them_are_told_at_once() -> None:
    wrong = evolve(WHOLE, num_train_epochs=2, snr_gamma=1, optimizer_beta1=0.1, validation_method="external-script")
    assert [name for name, _ in contradictions(wrong)] == [
        "num_train_epochs",
        "optimizer_beta1",
        "validation_external_script",
        "snr_gamma",
    ]


def test_placeholders_of_scripts_are_the_tutorials_and_every_validation_option() -> None:
    script = "x {local_checkpoint_path} {global_step} {model_family} {remote_checkpoint_path} {validation_guidance}"
    assert dict(contradictions(evolve(WHOLE, post_checkpoint_script=script))) == {}
    assert dict(contradictions(evolve(WHOLE, post_checkpoint_script="x {validation_nothing}")))


def test_a_prediction_that_only_the_family_knows_is_held_against_the_options() -> None:
    unknown = evolve(WHOLE, model_family="of_a_test", snr_gamma=5)
    assert dict(contradictions(unknown)) == {}
    assert list(dict(against_prediction(unknown, "flow_matching"))) == ["snr_gamma"]
    assert list(against_prediction(unknown, "epsilon")) == []
