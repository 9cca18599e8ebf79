"""Options that do not go together, each told at one of them with what would run."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import attrs

from schemas.diffusion.options import Options
from schemas.diffusion.pipelines import PREDICTIONS

Found = Iterator[tuple[str, str]]

_USUAL: Final = Options()
_EPSILON_ALONE: Final = ("input_perturbation",)
_NOT_FOR_FLOWS: Final = ("snr_gamma", "offset_noise", "rescale_betas_zero_snr", "timestep_bias_strategy")
#: What scripts may have in their command lines, beside the options that begin with `validation_`.
PLACEHOLDERS: Final = frozenset({
    "local_checkpoint_path", "global_step", "tracker_run_name", "tracker_project_name", "model_family", "model_type",
    "lora_type", "huggingface_path", "remote_checkpoint_path",
})  # fmt: skip
SCRIPTS: Final = ("validation_external_script", "post_checkpoint_script", "post_upload_script")


def scripts_of(options: Mapping[str, Any]) -> list[str]:
    """Those of the options, by their own names, that start a program of the caller's own."""
    return [name for name in SCRIPTS if options.get(name)]


def contradictions(options: Options) -> Found:
    """Names of options, each with what is wrong with it beside others."""
    for rule in (_length, _model, _adapter, _optimizer, _schedules, _guidance, _validation, _scripts):
        yield from rule(options)
    yield from against_prediction(options, options.prediction_type or PREDICTIONS.get(options.model_family))
    yield from against_family(options)


def against_prediction(options: Options, prediction: str | None) -> Found:
    """Options that a model which predicts this can't follow; None: not known yet."""
    if prediction == "flow_matching":
        for name in (*_NOT_FOR_FLOWS, *_EPSILON_ALONE):
            if getattr(options, name) != getattr(_USUAL, name):
                yield name, "is for models that predict noise (epsilon) or v, and this one matches flows; leave it out"
    elif prediction is not None:
        for name in (item.name for item in attrs.fields(Options) if item.name.startswith("flow_")):
            if getattr(options, name) != getattr(_USUAL, name):
                yield name, f"is for models that match flows, and this one predicts {prediction}; leave it out"
        if prediction != "epsilon" and options.input_perturbation:
            yield "input_perturbation", f"is for models that predict epsilon, not {prediction}; leave it out"


def against_family(options: Options) -> Found:
    """Options of Flux that were given for another family."""
    if options.model_family and options.model_family != "flux":
        for name in (item.name for item in attrs.fields(Options) if item.name.startswith("flux_")):
            if getattr(options, name) != getattr(_USUAL, name):
                yield name, f"is for family flux, not {options.model_family}; leave it out"


def _length(options: Options) -> Found:
    steps, epochs = options.max_train_steps or 0, options.num_train_epochs
    if steps and epochs:
        yield "num_train_epochs", f"is {epochs:g}, and max_train_steps is {steps}; one of them must be 0"
    if not steps and not epochs:
        yield "num_train_epochs", "is 0 as max_train_steps is; give one of them"


def _model(options: Options) -> Found:
    if options.model_type == "full" and options.base_model_precision != "no_change":
        kind = options.base_model_precision
        yield (
            "base_model_precision",
            f"{kind!r} quantises a frozen base, and model_type full trains it; no_change would run",
        )


def _adapter(options: Options) -> Found:
    if options.model_type == "full":
        return
    yield from _names_of_weights(options)
    if options.lora_type == "lycoris":
        for name in ("use_dora", "lora_init_type", "peft_lora_target_modules"):
            if getattr(options, name) != getattr(_USUAL, name):
                yield name, "is for lora_type standard; lycoris_config says it for lycoris"
        if options.model_family != "flux" or options.flux_lora_target == "all":
            return
        yield "flux_lora_target", "is for lora_type standard; apply_preset of lycoris_config says it for lycoris"
    elif options.lycoris_config is not None:
        yield "lycoris_config", "is for lora_type lycoris; give that, or leave it out"


def _names_of_weights(options: Options) -> Found:
    """What has no names in ComfyUI's way that a stock loader reads."""
    if options.lora_format != "comfyui":
        return
    if options.lora_type == "lycoris":
        yield "lora_format", "is for lora_type standard; ComfyUI reads the names of LyCORIS as they are"
    elif options.model_family and options.model_family != "flux":
        yield (
            "lora_format",
            f"'comfyui' is for family flux in this version, not {options.model_family}; diffusers would run",
        )
    elif options.use_dora:
        yield (
            "lora_format",
            "'comfyui' does not go with use_dora: stock loaders leave its lengths out; diffusers would run",
        )


def _optimizer(options: Options) -> Found:
    first, second = options.optimizer_beta1, options.optimizer_beta2
    if (first is None) != (second is None):
        there, lacking = (
            ("optimizer_beta1", "optimizer_beta2") if second is None else ("optimizer_beta2", "optimizer_beta1")
        )
        yield there, f"needs {lacking} beside it: both or none of them"
    if options.optimizer == "adamw_bf16" and options.mixed_precision != "bf16":
        mixed = options.mixed_precision
        yield "optimizer", f"adamw_bf16 rounds weights of bf16, and mixed_precision is {mixed!r}; torch-adamw would run"


def _schedules(options: Options) -> Found:
    ways = {
        "flow_use_uniform_schedule": options.flow_use_uniform_schedule,
        "flow_use_beta_schedule": options.flow_use_beta_schedule,
        "flow_custom_timesteps": options.flow_custom_timesteps is not None,
        "flux_fast_schedule": options.flux_fast_schedule,
    }
    chosen = [name for name, on in ways.items() if on]
    for name in chosen[1:]:
        yield name, f"does not go with {chosen[0]}: timesteps are drawn in one way"
    if options.use_soft_min_snr and options.snr_gamma is None:
        yield "use_soft_min_snr", "needs snr_gamma: 5 beside it would run"
    begin, end = options.timestep_bias_begin, options.timestep_bias_end
    if options.timestep_bias_strategy == "range" and begin >= end:
        yield "timestep_bias_begin", f"is {begin:g}, not less than timestep_bias_end {end:g}"


def _guidance(options: Options) -> Found:
    least, most = options.flux_guidance_min, options.flux_guidance_max
    if options.flux_guidance_mode == "random-range" and least > most:
        yield "flux_guidance_min", f"is {least:g}, more than flux_guidance_max {most:g}"


def _validation(options: Options) -> Found:
    script = options.validation_external_script
    if options.validation_method == "external-script" and script is None:
        yield "validation_external_script", "is required with validation_method 'external-script': a command line"
    if options.validation_method != "external-script" and script is not None:
        yield "validation_external_script", "is used only with validation_method 'external-script'; give that too"
    if options.validation_external_background and options.validation_method != "external-script":
        yield "validation_external_background", "is used only with validation_method 'external-script'"


def _scripts(options: Options) -> Found:
    """Names in braces that mean nothing."""
    for name in SCRIPTS:
        for placeholder in re.findall(r"\{([^{}]*)\}", getattr(options, name) or ""):
            of_validation = placeholder.startswith("validation_") and hasattr(options, placeholder)
            if placeholder not in PLACEHOLDERS and not of_validation:
                known = ", ".join(sorted(PLACEHOLDERS))
                yield name, f"{{{placeholder}}} is not known; there are {known} and the options validation_…"
