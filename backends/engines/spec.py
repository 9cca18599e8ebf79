"""From a valid request and a machine to the spec of its run: pure."""

import sys
from collections.abc import Iterator

from attrs import evolve

from backends.engines import paths
from backends.engines.batches import Batch, choose_batch
from backends.engines.diffusion import spec as images
from backends.engines.machine import Machine
from backends.engines.methods import ADAPTERS, compute_type, computes_in_bf16, unused
from backends.engines.places import is_revision_unused, unused_auth
from backends.engines.sizes import lowered, precision_of, processes_of
from common.backend import JobSpec
from common.settings import Settings
from common.storage import with_job
from schemas.converter import unstructure
from schemas.secrets import without_masks
from schemas.train import Resources, TrainRequest, resolve
from schemas.values import FieldWarning

TRAINER = (sys.executable, "-P", "-m", "trainyard.trainer")


def build(request: TrainRequest, machine: Machine, settings: Settings) -> JobSpec:
    """The spec of a request that `limits.find_errors` has nothing against."""
    if request.extra_parameters.engine == "command":
        return _own_trainer(request, machine)
    if request.extra_parameters.engine == "diffusion":
        return _of_pictures(request, machine, settings)
    resources, processes = lowered(request, machine), processes_of(request, machine)
    batch, precision = choose_batch(request, processes), precision_of(request, machine)
    ready = _absolute(resolve(evolve(request, resources=resources)))
    bf16 = computes_in_bf16(request.customization.method, precision, compute_type(request.customization))
    needs = _needs(resources, machine, bf16=bf16)
    ready = evolve(
        ready,
        customization=evolve(ready.customization, precision=precision),
        tuning_parameters=evolve(
            ready.tuning_parameters,
            batch_size=batch.size,
            micro_batch_size=batch.micro,
            gradient_accumulation_steps=batch.accumulation,
        ),
        extra_parameters=evolve(ready.extra_parameters, engine="text"),
    )
    warnings = tuple(_warnings(request, ready, batch, processes, machine))
    return _of_ours("text", ready, machine, _options(settings, processes, machine.nodes), needs, warnings)


def _of_pictures(request: TrainRequest, machine: Machine, settings: Settings) -> JobSpec:
    """The spec of an image model's training."""
    resources, processes = lowered(request, machine), processes_of(request, machine)
    ready, job = images.completed(request, machine)
    ready = _absolute(evolve(ready, resources=resources))
    needs = _needs(resources, machine, bf16=job.options.mixed_precision == "bf16")
    warnings = (*_resource_warnings(request, resources, machine), *images.warnings(request, job))
    return _of_ours("diffusion", ready, machine, _options(settings, processes, machine.nodes), needs, warnings)


def _of_ours(
    engine: str,
    ready: TrainRequest,
    machine: Machine,
    options: dict[str, object],
    needs: dict[str, int],
    warnings: tuple[FieldWarning, ...],
) -> JobSpec:
    """The spec of a run of our own trainer."""
    return JobSpec(
        engine=engine,
        argv=TRAINER,
        request=without_masks(unstructure(ready)),
        options=options,
        lane=next(reversed(needs)),
        needs=needs,
        output=with_job(ready.artifacts.output_uri, ready.job_id),
        log=with_job(ready.artifacts.log_uri, ready.job_id),
        threads=min(ready.resources.cpus, machine.cpus),
        deadline_minutes=ready.resources.max_duration_minutes,
        warnings=warnings,
    )


def _own_trainer(request: TrainRequest, machine: Machine) -> JobSpec:
    """The spec of a program of the caller's own: model, data and numbers are handed over as they are."""
    resources = lowered(request, machine)
    ready = _absolute(resolve(evolve(request, resources=resources)))
    needs = _needs(resources, machine, bf16=False)
    return JobSpec(
        engine="command",
        argv=request.extra_parameters.command or (),
        request=without_masks(unstructure(ready)),
        lane=next(reversed(needs)),
        needs=needs,
        output=with_job(ready.artifacts.output_uri, request.job_id),
        log=with_job(ready.artifacts.log_uri, request.job_id),
        threads=min(resources.cpus, machine.cpus),
        deadline_minutes=resources.max_duration_minutes,
        warnings=tuple(_resource_warnings(request, resources, machine)),
    )


def _needs(resources: Resources, machine: Machine, *, bf16: bool) -> dict[str, int]:
    """What it takes; where only one kind of the machine's GPUs will do, of that kind too. The last one is its lane."""
    if not resources.gpus:
        return {"cpu": 1}
    fitting = set(machine.fitting(resources.gpu_type, bf16=bf16))
    kind = [name for name, devices in machine.kinds.items() if devices == fitting]
    return dict.fromkeys(["gpu", *kind], resources.gpus)


def _options(settings: Settings, processes: int, nodes: int) -> dict[str, object]:
    """What the trainer needs to know beside the document: processes on each machine, settings that it follows too."""
    return {
        "processes": processes // nodes,
        **({"nodes": nodes} if nodes > 1 else {}),
        "spare_bytes": settings.min_free_bytes,
        "cache_dir": str(settings.cache_dir.absolute()),
        "max_download_bytes": settings.max_download_bytes,
        "download_hosts": settings.download_hosts,
    }


def _absolute(request: TrainRequest) -> TrainRequest:
    """Every local path as the run will find it, whatever its working directory."""

    def whole(uri: str) -> str:
        return str(paths.place(uri) or uri)

    name = request.base_model.model_name
    return evolve(
        request,
        base_model=evolve(request.base_model, model_name=str(paths.model_path(name) or name)),
        datasets=tuple(
            d if paths.is_hub_dataset(d.source, d.format) else evolve(d, source=whole(d.source))
            for d in request.datasets
        ),
        artifacts=evolve(
            request.artifacts,
            log_uri=whole(request.artifacts.log_uri),
            output_uri=whole(request.artifacts.output_uri),
        ),
    )


def _warnings(
    request: TrainRequest, ready: TrainRequest, batch: Batch, processes: int, machine: Machine
) -> Iterator[FieldWarning]:
    yield from _resource_warnings(request, ready.resources, machine)
    if ready.customization.precision != request.customization.precision:
        yield FieldWarning("customization.precision", "lowered from the default bf16 to fp16: the GPU computes no bf16")
    size, method, extra = request.tuning_parameters.batch_size, request.customization.method, request.extra_parameters
    if batch.size != size:
        why = "to fit the batch sizes that were given" if batch.micro else f"a multiple of the {processes} processes"
        yield FieldWarning("tuning_parameters.batch_size", f"set to {batch.size} in place of the default {size}, {why}")
    if extra.merge and method not in ADAPTERS:
        yield FieldWarning("extra_parameters.merge", f"is not used: method {method!r} gives a whole model already")
    if extra.strategy == "ddp" and processes == 1:
        yield FieldWarning("extra_parameters.strategy", "is not used: the job has one process")
    for path in unused(request):
        yield FieldWarning(path, f"is not used with method {method!r}")
    if is_revision_unused(request):
        yield FieldWarning("base_model.revision", "is not used: the model does not come from a hub")
    for path in unused_auth(request):
        yield FieldWarning(path, "is not used: local files need none")


def _resource_warnings(request: TrainRequest, resources: Resources, machine: Machine) -> Iterator[FieldWarning]:
    wanted = request.resources
    if resources.gpus < wanted.gpus:
        yield FieldWarning("resources.gpus", f"lowered from the default 1 to 0: {machine.called} has no GPU")
    if resources.gpus == 0 and wanted.gpu_type is not None:
        yield FieldWarning("resources.gpu_type", "is not used: the job runs on the CPU")
    if resources.cpus < wanted.cpus:
        yield _lowered("resources.cpus", wanted.cpus, resources.cpus, machine)
    if resources.memory_gb < wanted.memory_gb:
        yield _lowered("resources.memory_gb", wanted.memory_gb, resources.memory_gb, machine)


def _lowered(path: str, default: float, have: float, machine: Machine) -> FieldWarning:
    return FieldWarning(path, f"lowered from the default {default:g} to the {have:g} that {machine.called} has")
