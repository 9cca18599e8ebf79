"""A diffusion job's document with every option filled in, as its run will read it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import evolve

from backends.engines.diffusion.job import read
from backends.engines.diffusion.places import caption_notes
from backends.engines.machine import Machine
from backends.engines.sizes import processes_of
from common.errors import InvalidRequest
from schemas.converter import unstructure
from schemas.diffusion import Options
from schemas.diffusion.files import entries_at
from schemas.diffusion.request import PREFIX, Job, is_option, options_given
from schemas.diffusion.spelling import undashed
from schemas.train import TrainRequest
from schemas.values import FieldWarning

#: Precisions of the `/train` document by `mixed_precision`.
_PRECISIONS: Mapping[str, Any] = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}


def completed(request: TrainRequest, machine: Machine) -> tuple[TrainRequest, Job]:
    """The request of a job that nothing is wrong with: its options, and the fields that mean the same, agree.

    Raises `InvalidRequest` where a file of its model was made another meanwhile, and something is wrong now.
    """
    job, errors = read(request, machine)
    if job is None:
        raise InvalidRequest(errors)
    options, extra = job.options, request.extra_parameters
    method: Any = options.model_type
    at_once, times = options.train_batch_size, options.gradient_accumulation_steps
    tuning = evolve(
        request.tuning_parameters,
        learning_rate=options.learning_rate,
        micro_batch_size=at_once,
        gradient_accumulation_steps=times,
        batch_size=at_once * times * processes_of(request, machine),
        max_steps=options.max_train_steps or None,
        num_epochs=options.num_train_epochs or request.tuning_parameters.num_epochs,
        seed=request.tuning_parameters.seed if options.seed is None else options.seed,
        save_steps=options.checkpoint_step_interval or None,
        logging_steps=options.logging_steps,
    )
    ready = evolve(
        request,
        customization=evolve(request.customization, method=method, precision=_PRECISIONS[options.mixed_precision]),
        tuning_parameters=tuning,
        extra_parameters=evolve(extra, engine="diffusion", options=_options(extra.options, options)),
    )
    return ready, job


def _options(given: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """Keys of others as they were given, then every option that has a value, files as what was read from them."""
    ours = {name: value for name, value in unstructure(options).items() if value is not None}
    config = options_given(given).get("data_backend_config")
    if config is not None and not isinstance(config, str):
        ours["data_backend_config"] = entries_at(config, Path.cwd())
    others = {name: value for name, value in given.items() if not is_option(name)}
    return others | ours


def warnings(request: TrainRequest, job: Job) -> Iterator[FieldWarning]:
    """What was asked for and says nothing to such a job, and what was chosen for it."""
    options, asked, given = job.options, request.asked, options_given(request.extra_parameters.options)
    if options.model_type == "full":
        for name in ("rank", "lora_alpha", "lora_dropout", "target_modules"):
            if f"customization.{name}" in asked:
                yield FieldWarning(f"customization.{name}", "is not used with method 'full'")
    if options.lora_type == "lycoris" and "lycoris_config" not in given:
        yield FieldWarning(f"{PREFIX}.lycoris_config", "is not given: LoKr on attention and feed-forward is trained")
    yield from (FieldWarning(path, message) for path, message in caption_notes(request, job))
    if undashed(request.extra_parameters.options).get("accelerate_visible_devices"):
        message = "says how many GPUs are taken; which ones, the backend says"
        yield FieldWarning(f"{PREFIX}.accelerate_visible_devices", message)
    shown = options.validation_prompt or options.user_prompt_library or options.validation_prompt_library
    if (
        not shown
        and options.validation_method != "external-script"
        and any(name.startswith("validation_") for name in given)
    ):
        yield FieldWarning(f"{PREFIX}.validation_prompt", "is not given, so no pictures are made")
