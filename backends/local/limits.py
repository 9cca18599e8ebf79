"""What this version does on `local`, and what this machine can: everything else is refused here, all at once."""

from collections.abc import Iterator
from math import floor

from backends.local import paths
from backends.local.batches import batch_errors
from backends.local.machine import Machine
from common.storage import scheme
from schemas.train import TrainRequest
from schemas.values import FieldError

LATER = "is not in this version of local"
_PEFT_CONFIG = {"task_type": "CAUSAL_LM", "peft_type": "LORA"}


def find_errors(request: TrainRequest, machine: Machine) -> list[FieldError]:
    """Every field that can't be done here, each with what would run."""
    checks = (_model, _customization, _datasets, _artifacts, _tuning, _extra)
    found = [FieldError(path, message) for check in checks for path, message in check(request)]
    return [FieldError(path, message) for path, message in _resources(request, machine)] + found


Found = Iterator[tuple[str, str]]


def _resources(request: TrainRequest, machine: Machine) -> Found:
    wanted, asked = request.resources, request.asked
    if machine.lacking:
        lacking = ", ".join(machine.lacking)
        yield "backend", f"local can't train here, {lacking} is not installed: pip install 'trainyard[train]' would do"
    yield from _gpus(request, machine)
    if "resources.cpus" in asked and wanted.cpus > machine.cpus:
        yield "resources.cpus", f"{wanted.cpus} asked, this machine has {machine.cpus}; cpus: {machine.cpus} would run"
    if "resources.memory_gb" in asked and wanted.memory_gb > machine.memory_gib:
        have = f"{machine.memory_gib:.1f}" if machine.memory_gib < 1 else f"{floor(machine.memory_gib)}"
        yield (
            "resources.memory_gb",
            f"{wanted.memory_gb:g} asked, this machine has {have} GiB; memory_gb: {have} would run",
        )
    if wanted.max_cost is not None:
        yield "resources.max_cost", "needs a price list, and this installation has none; leave it out"


def _gpus(request: TrainRequest, machine: Machine) -> Found:
    asked = request.resources.gpus if "resources.gpus" in request.asked else None
    gpu_type, have = request.resources.gpu_type, len(machine.devices)
    if asked and not have:
        yield "resources.gpus", f"{asked} asked, this machine has none; gpus: 0 would run, on the CPU"
    elif asked and asked > have:
        yield "resources.gpus", f"{asked} asked, this machine has {have}; gpus: 1 would run"
    elif asked and asked > 1:
        yield "resources.gpus", f"{asked} asked: more than one GPU for a job {LATER}; gpus: 1 would run"
    if gpu_type is not None and asked != 0 and not machine.matching(gpu_type):
        names = ", ".join(sorted({d.name for d in machine.devices})) or "none"
        yield "resources.gpu_type", f"no GPU of this machine is a {gpu_type!r}; it has {names}; leave gpu_type out"


def _model(request: TrainRequest) -> Found:
    model = request.base_model
    if model.weights_url is not None:
        yield (
            "base_model.weights_url",
            f"{LATER}; download the weights and give their folder in base_model.model_name",
        )
    elif (problem := paths.model_problem(model.model_name)) is not None:
        yield "base_model.model_name", problem


def _customization(request: TrainRequest) -> Found:
    custom = request.customization
    if custom.method not in ("lora", "full"):
        yield "customization.method", f"{custom.method!r} {LATER}; lora or full would run"
    if custom.precision == "int8":
        yield "customization.precision", f"'int8' {LATER}; bf16 or fp32 would run"
    if custom.trainable_layers:
        yield "customization.trainable_layers", f"{LATER}; leave it out, or give an empty list"
    if custom.peft is None or custom.peft.use is False:
        return
    if custom.peft.use and custom.method == "full":
        yield "customization.peft.use", "method 'full' trains no adapter; use: false, or method: lora would run"
    for key, value in (custom.peft.config or {}).items():
        if key not in _PEFT_CONFIG:
            yield f"customization.peft.config.{key}", f"{LATER}; rank, lora_alpha, lora_dropout, target_modules are"
        elif value != _PEFT_CONFIG[key]:
            yield f"customization.peft.config.{key}", f"{value!r} {LATER}; {_PEFT_CONFIG[key]!r} would run"


def _datasets(request: TrainRequest) -> Found:
    for n, dataset in enumerate(request.datasets):
        at = f"datasets[{n}]"
        if (remote := _remote(dataset.source)) is not None:
            yield f"{at}.source", f"{remote}; a local path would run"
        elif dataset.format == "jsonl" and (problem := paths.dataset_problem(dataset.source)) is not None:
            yield f"{at}.source", problem
        if dataset.format != "jsonl":
            yield f"{at}.format", f"{dataset.format!r} {LATER}; jsonl would run"
        if dataset.split is not None:
            yield f"{at}.split", f"{LATER}; give a file for each split and leave it out"
        if dataset.streaming:
            yield f"{at}.streaming", f"{LATER}; leave it out"
        if dataset.weight not in (None, 1):
            yield f"{at}.weight", f"{LATER}; leave it out, or name a source twice"
        if dataset.auth is not None:
            yield f"{at}.auth", f"{LATER}: local files need none; leave it out"


def _artifacts(request: TrainRequest) -> Found:
    for name, uri in (("log_uri", request.artifacts.log_uri), ("output_uri", request.artifacts.output_uri)):
        if (remote := _remote(uri)) is not None:
            yield f"artifacts.{name}", f"{remote}; a local folder would run"
        elif (problem := paths.folder_problem(uri)) is not None:
            yield f"artifacts.{name}", problem
    if request.artifacts.auth is not None:
        yield "artifacts.auth", f"{LATER}: local folders need none; leave it out"


def _remote(uri: str) -> str | None:
    kind = scheme(uri)
    if kind == "file":
        return None
    return f"{kind}:// {LATER}"


def _tuning(request: TrainRequest) -> Found:
    tuning = request.tuning_parameters
    yield from ((f"tuning_parameters.{name}", message) for name, message in batch_errors(request))
    if tuning.optimizer != "adamw":
        yield "tuning_parameters.optimizer", f"{tuning.optimizer!r} {LATER}; adamw would run"
    if tuning.packing:
        yield "tuning_parameters.packing", f"{LATER}; packing: false would run"
    if tuning.objective != "sft":
        yield "tuning_parameters.objective", f"{tuning.objective!r} {LATER}; sft would run"
    if tuning.early_stopping_patience is not None:
        yield "tuning_parameters.early_stopping_patience", f"{LATER}; leave it out"
    if tuning.eval_steps is not None and tuning.eval_ratio == 0:
        yield "tuning_parameters.eval_steps", "needs rows to evaluate on: eval_ratio: 0.1 beside it would run"


def _extra(request: TrainRequest) -> Found:
    extra = request.extra_parameters
    if extra.engine not in (None, "text"):
        yield "extra_parameters.engine", f"{extra.engine!r} {LATER}; text would run"
    if extra.command is not None:
        yield "extra_parameters.command", f"a trainer of your own {LATER}; leave it out"
    if extra.max_retries > 0:
        yield "extra_parameters.max_retries", f"{LATER}; max_retries: 0 would run"
    for name, value in (
        ("stall_minutes", extra.stall_minutes),
        ("on_bad_row", extra.on_bad_row),
        ("merge", extra.merge or None),
        ("strategy", extra.strategy),
    ):
        if value is not None:
            yield f"extra_parameters.{name}", f"{LATER}; leave it out"
