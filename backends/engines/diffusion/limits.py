"""What this version trains of image models, and what a machine can: everything else is refused here, all at once."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from backends.engines.batches import batch_errors
from backends.engines.machine import Machine
from backends.engines.methods import QUANT
from backends.engines.sizes import lowered, processes_of
from schemas.diffusion import Options
from schemas.diffusion.request import PREFIX, Job, is_option
from schemas.trail import nearest
from schemas.train import TrainRequest
from schemas.uri import mask_urls
from schemas.values import joined

Found = Iterator[tuple[str, str]]

METHODS = ("full", "lora")
DIFFUSION = "pip install 'trainyard[diffusion]' would do"
WANDB = "pip install 'trainyard[wandb]' would do"
_FAMILIES = "trainyard.trainer.diffusion.families"
_LATER = "is not in this version of engine diffusion"
#: Packages that a diffusion job can't do without, as they are imported and as they are installed.
_NEEDS = {"diffusers": "diffusers", "PIL": "pillow"}


def installed(_request: TrainRequest, machine: Machine) -> Found:
    """The packages of the extra `diffusion`."""
    lacking = [name for module, name in _NEEDS.items() if module in machine.absent]
    if machine.lacking or lacking:
        names = ", ".join([*machine.lacking, *lacking])
        yield "backend", f"{machine.backend} can't train image models here, {names} is not installed: {DIFFUSION}"


def custom_errors(request: TrainRequest, _machine: Machine) -> Found:
    """What of `customization` image models have not."""
    custom, at = request.customization, "customization"
    if custom.method not in METHODS:
        yield f"{at}.method", f"{custom.method!r} {_LATER}; {' or '.join(METHODS)} would run"
    if custom.peft is not None and custom.peft.use is not False:
        yield f"{at}.peft", f"{_LATER}; rank, lora_alpha, lora_dropout, target_modules and {PREFIX}.lora_type would run"
    if custom.trainable_layers:
        yield f"{at}.trainable_layers", f"{_LATER}; leave it out"
    if custom.qlora is not None:
        yield f"{at}.qlora", f"{_LATER}; {PREFIX}.base_model_precision: int8-quanto would run"


def tuning_errors(request: TrainRequest, machine: Machine) -> Found:
    """What of `tuning_parameters` is of texts, or does not go together."""
    tuning, at = request.tuning_parameters, "tuning_parameters"
    yield from ((f"{at}.{name}", message) for name, message in batch_errors(request, processes_of(request, machine)))
    if tuning.objective != "sft":
        yield f"{at}.objective", f"{tuning.objective!r} is for language models; leave it out"
    if tuning.packing:
        yield f"{at}.packing", "is for language models: pictures are not packed; leave it out"
    if tuning.eval_ratio:
        yield f"{at}.eval_ratio", f"{_LATER}: no pictures are held out; {PREFIX}.validation_prompt would show some"
    if tuning.early_stopping_patience is not None:
        yield f"{at}.early_stopping_patience", f"{_LATER}; leave it out"
    if tuning.optimizer not in ("adamw", "adamw_8bit"):
        yield f"{at}.optimizer", f"{tuning.optimizer!r} {_LATER}; adamw, adamw_8bit or {PREFIX}.optimizer would run"


def extra_errors(request: TrainRequest, _machine: Machine) -> Found:
    """Common keys of `extra_parameters` that image models have not."""
    extra = request.extra_parameters
    if extra.merge:
        yield f"{PREFIX}.merge", f"{_LATER}; leave it out"
    if extra.strategy not in (None, "auto", "ddp"):
        yield f"{PREFIX}.strategy", f"{extra.strategy!r} {_LATER}; auto or ddp would run"


def option_errors(request: TrainRequest, machine: Machine, job: Job | None) -> Found:
    """What a machine, or this version, can't do of options that are right in themselves."""
    yield from _secret_urls(request)
    if job is not None:
        yield from _family(job.options)
        yield from _packages(job.options, machine)
        yield from _device(request, job, machine)


def _secret_urls(request: TrainRequest) -> Found:
    """Texts that the run would get without their secret part."""
    for name, value in request.extra_parameters.options.items():
        for path in _masked(value, (name.removeprefix("--"),)) if is_option(name) else ():
            would = f"{PREFIX}.env would give it to the run" if len(path) == 1 else "leave that part out"
            yield joined(PREFIX, *path), f"has a URL with a password or query, which is kept secret; {would}"


def _masked(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """The places of texts that have another form where they are shown, however deep they lie."""
    if isinstance(value, str):
        if mask_urls(value) != value:
            yield path
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _masked(item, (*path, key))


def _family(options: Options) -> Found:
    """A family that there is no module for; looked for by the names of files, so that nothing is imported."""
    spec = find_spec(_FAMILIES)
    places = spec.submodule_search_locations if spec is not None else None
    names = [m.name for m in iter_modules(places or []) if not m.ispkg and m.name != "family" and m.name[0] != "_"]
    if names and options.model_family not in names:
        guess = nearest(options.model_family, names)
        hint = f"; did you mean {guess!r}?" if guess else ""
        at = f"{PREFIX}.model_family"
        yield at, f"{options.model_family!r} is not one of {', '.join(sorted(names))}{hint}"


def _packages(options: Options, machine: Machine) -> Found:
    wishes = (
        ("lora_type", options.lora_type == "lycoris" and options.model_type == "lora", "lycoris", DIFFUSION),
        ("optimizer", options.optimizer.startswith("optimi-"), "optimi", DIFFUSION),
        ("optimizer", options.optimizer.startswith("bnb-"), "bitsandbytes", QUANT),
        ("base_model_precision", options.base_model_precision.endswith("-quanto"), "optimum", QUANT),
        ("base_model_precision", options.base_model_precision.endswith("-torchao"), "torchao", QUANT),
        ("report_to", "tensorboard" in options.report_to, "tensorboardX", DIFFUSION),
        ("report_to", "wandb" in options.report_to, "wandb", WANDB),
    )
    for name, wished, package, how in wishes:
        if wished and package in machine.absent:
            value = getattr(options, name)
            shown = ", ".join(value) if isinstance(value, tuple) else repr(value)
            yield f"{PREFIX}.{name}", f"{shown} needs {package}, which is not installed: {how}"


def _device(request: TrainRequest, job: Job, machine: Machine) -> Found:
    """A half precision that the GPUs do not compute in."""
    gpus, kind = lowered(request, machine).gpus, request.resources.gpu_type
    able, at = len(machine.fitting(kind, bf16=True)), f"{PREFIX}.mixed_precision"
    if gpus and job.options.mixed_precision == "bf16" and able < gpus <= len(machine.matching(kind)):
        old = next(device for device in machine.devices if not device.has_bf16)
        capability = f"{old.name} has compute capability {old.compute_cap:g}, and bf16 needs 8.0"
        yield at, f"{capability}; fp16 would run" + (f", or resources.gpus: {able}" if able else "")
    if not gpus and job.options.mixed_precision == "fp16":
        yield at, "fp16 needs a GPU; bf16 or no would run"
