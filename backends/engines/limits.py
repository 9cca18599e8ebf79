"""What this version trains, and what a machine can: everything else is refused here, all at once."""

import re
from collections.abc import Iterator
from math import floor

from backends.engines import paths
from backends.engines.batches import batch_errors
from backends.engines.diffusion import limits as images
from backends.engines.diffusion.job import read
from backends.engines.diffusion.places import data_errors, part_errors, pipeline_errors
from backends.engines.machine import Machine
from backends.engines.methods import (
    ADAPTERS,
    EIGHT_BIT_OPTIMIZERS,
    QUANT,
    UNMERGEABLE,
    adapter_kind,
    method_errors,
    needs_bf16,
    quantised,
)
from backends.engines.own_trainer import command_errors
from backends.engines.places import artifact_errors, dataset_errors, model_errors
from backends.engines.sizes import lowered, processes_asked, processes_of
from schemas.train import TrainRequest
from schemas.values import FieldError

OBJECTIVES = ("sft", "dpo")
STRATEGIES = ("auto", "ddp", "fsdp")

#: As the `datasets` library names one: `train`, `configuration/train`, `train[:10%]`, `train[100:200]`.
_SLICED = re.compile(r"[^\[\]+]+(\[(\d+%?)?:(\d+%?)?\])?")

_PROCESSES = {"text": "processes", "diffusion": "num_processes"}

Found = Iterator[tuple[str, str]]


def find_errors(request: TrainRequest, machine: Machine) -> list[FieldError]:
    """Every field that can't be done here, each with what would run."""
    text = (
        *(_installed, _resources, _gpus, _processes, model_errors, method_errors, _half_precision),
        *(dataset_errors, _splits, artifact_errors, _tuning, _merge, _strategy),
    )
    own = (_resources, _gpus, artifact_errors, command_errors)
    checks = own if request.extra_parameters.engine == "command" else text
    if request.extra_parameters.engine == "diffusion":
        return _image_errors(request, machine)
    return [FieldError(path, message) for check in checks for path, message in check(request, machine)]


def _image_errors(request: TrainRequest, machine: Machine) -> list[FieldError]:
    """Those of the diffusion engine."""
    job, wrong = read(request, machine)
    checks = (
        *(images.installed, _resources, _gpus, _processes, pipeline_errors, images.custom_errors, artifact_errors),
        *(images.tuning_errors, images.extra_errors, part_errors),
    )
    found = [FieldError(path, message) for check in checks for path, message in check(request, machine)]
    of_job = (*data_errors(request, machine, job), *images.option_errors(request, machine, job))
    return [*found, *wrong, *(FieldError(path, message) for path, message in of_job)]


def _installed(_request: TrainRequest, machine: Machine) -> Found:
    if machine.lacking:
        lacking = ", ".join(machine.lacking)
        yield (
            "backend",
            f"{machine.backend} can't train here, {lacking} is not installed: pip install 'trainyard[train]' would do",
        )


def _resources(request: TrainRequest, machine: Machine) -> Found:
    wanted, asked = request.resources, request.asked
    if "resources.cpus" in asked and wanted.cpus > machine.cpus:
        yield (
            "resources.cpus",
            f"{wanted.cpus} asked, {machine.called} has {machine.cpus}; cpus: {machine.cpus} would run",
        )
    if "resources.memory_gb" in asked and wanted.memory_gb > machine.memory_gib:
        have = f"{machine.memory_gib:.1f}" if machine.memory_gib < 1 else f"{floor(machine.memory_gib)}"
        yield (
            "resources.memory_gb",
            f"{wanted.memory_gb:g} asked, {machine.called} has {have} GiB; memory_gb: {have} would run",
        )
    if wanted.max_cost is not None:
        yield "resources.max_cost", "needs a price list, and this installation has none; leave it out"


def _gpus(request: TrainRequest, machine: Machine) -> Found:
    asked = request.resources.gpus if "resources.gpus" in request.asked else None
    gpu_type, have = request.resources.gpu_type, len(machine.devices)
    matching = len(machine.matching(gpu_type))
    if asked and not have:
        yield "resources.gpus", f"{asked} asked, {machine.called} has none; gpus: 0 would run, on the CPU"
    elif asked and asked > matching > 0:
        kind = f" {gpu_type}" if gpu_type else ""
        yield "resources.gpus", f"{asked} asked, {machine.called} has {matching}{kind}; gpus: {matching} would run"
    if gpu_type is not None and asked != 0 and not matching:
        names = ", ".join(sorted({d.name for d in machine.devices})) or "none"
        yield "resources.gpu_type", f"no GPU of {machine.called} is a {gpu_type!r}; it has {names}; leave gpu_type out"


def _processes(request: TrainRequest, machine: Machine) -> Found:
    asked, at = processes_asked(request), f"extra_parameters.{_PROCESSES[request.extra_parameters.engine or 'text']}"
    if asked is None:
        return
    resources = lowered(request, machine)
    if resources.gpus:
        if asked != resources.gpus:
            yield (
                at,
                (
                    f"{asked} asked beside {resources.gpus} GPU: there is one process for each; gpus: {asked}, "
                    "or gpus: 0 for processes on the CPU would run"
                ),
            )
    elif asked > resources.cpus:
        yield at, f"{asked} asked for {resources.cpus} CPUs, and each needs one; processes: {resources.cpus} would run"


def _half_precision(request: TrainRequest, machine: Machine) -> Found:
    """A half precision that the device does not compute in."""
    custom, gpus, at = request.customization, lowered(request, machine).gpus, "customization.precision"
    asked = at in request.asked or (custom.qlora is not None and custom.qlora.bnb_4bit_compute_dtype == "bfloat16")
    gpu_type = request.resources.gpu_type
    able = len(machine.fitting(gpu_type, bf16=True))
    if gpus and asked and needs_bf16(custom) and able < gpus <= len(machine.matching(gpu_type)):
        old = next(d for d in machine.devices if not d.has_bf16)
        reason = f"{old.name} has compute capability {old.compute_cap:g}, and bf16 needs 8.0"
        if custom.method == "qlora" and custom.qlora is not None and custom.qlora.bnb_4bit_compute_dtype is not None:
            at, would = "customization.qlora.bnb_4bit_compute_dtype", "float16"
        else:
            would = "precision: fp16"
        yield at, f"{reason}; {would} would run" + (f", or gpus: {able}" if able else "")
    if not gpus and custom.precision == "fp16" and request.tuning_parameters.objective != "sft":
        yield at, f"'fp16' with objective {request.tuning_parameters.objective!r} needs a GPU; bf16 or fp32 would run"


def _splits(request: TrainRequest, _machine: Machine) -> Found:
    """Splits that a format has not; whether one is there is known only when the data is."""
    for n, dataset in enumerate(request.datasets):
        split, at = dataset.split, f"datasets[{n}].split"
        if split is None:
            continue
        if dataset.format == "hf":
            if _SLICED.fullmatch(split) is None:
                yield at, f"{split!r} must be the name of a split or a slice of it, such as train or train[:10%]"
            elif dataset.streaming and "%" in split and paths.is_hub_dataset(dataset.source, "hf"):
                yield (
                    at,
                    f"{split!r} is a share, but how many rows a streamed dataset has is not known; give a number of "
                    "rows, such as train[:1000]",
                )
        elif re.search(r"[\[\]+]", split):
            yield (
                at,
                f"{split!r} is a slice, which only format hf has; for a share of the rows give weight (0.1 is a seeded "
                "tenth), for a held-out share tuning_parameters.eval_ratio",
            )


def _tuning(request: TrainRequest, machine: Machine) -> Found:
    tuning, at = request.tuning_parameters, "tuning_parameters"
    yield from ((f"{at}.{name}", message) for name, message in batch_errors(request, processes_of(request, machine)))
    if tuning.optimizer in EIGHT_BIT_OPTIMIZERS and "bitsandbytes" in machine.absent:
        yield f"{at}.optimizer", f"{tuning.optimizer!r} needs bitsandbytes, which is not installed: {QUANT}"
    if tuning.objective not in OBJECTIVES:
        yield f"{at}.objective", f"{tuning.objective!r} {_later_than(machine)}; {' or '.join(OBJECTIVES)} would run"
    elif tuning.objective != "sft" and tuning.packing:
        yield f"{at}.packing", "preference rows are not packed; packing: false would run"
    if tuning.eval_ratio == 0:
        rows = "needs rows to evaluate on: eval_ratio: 0.1 beside it would run"
        for name in ("eval_steps", "early_stopping_patience"):
            if getattr(tuning, name) is not None:
                yield f"{at}.{name}", rows


def _merge(request: TrainRequest, _machine: Machine) -> Found:
    custom = request.customization
    kind = custom.peft and custom.peft.use is not False and (custom.peft.config or {}).get("peft_type")
    if request.extra_parameters.merge and custom.method in ADAPTERS and kind in UNMERGEABLE:
        yield "extra_parameters.merge", f"a {kind} adapter can't be added to the weights of its base; leave merge out"


def _strategy(request: TrainRequest, machine: Machine) -> Found:
    strategy, at = request.extra_parameters.strategy, "extra_parameters.strategy"
    if strategy not in (None, *STRATEGIES):
        yield at, f"{strategy!r} {_later_than(machine)}; {', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]} would run"
    if strategy == "fsdp" and (against := next(_against_sharding(request, machine), None)) is not None:
        yield at, f"fsdp {against}"


def _against_sharding(request: TrainRequest, machine: Machine) -> Iterator[str]:
    custom, tuning = request.customization, request.tuning_parameters
    if processes_of(request, machine) < 2:
        more = "more GPUs, or on the CPU extra_parameters.processes: 2 would run"
        yield f"shards over at least 2 processes, and the job has one: {more}"
    if (kind := adapter_kind(request)) not in (None, "LORA"):
        yield f"shards whole models and LoRA, not {kind}; strategy: ddp would run"
    if quantised(custom):
        yield "does not shard a quantised base; strategy: ddp would run"
    if custom.precision == "fp16":
        yield "has no loss scale for shards, which fp16 needs; precision: bf16 would run"
    if tuning.optimizer != "adamw":
        yield f"does not shard the state of {tuning.optimizer}; optimizer: adamw would run"
    if tuning.objective != "sft":
        yield f"does not go with objective {tuning.objective!r}; strategy: ddp would run"


def _later_than(machine: Machine) -> str:
    return f"is not in this version of {machine.backend}"
