"""From a valid request and this machine to the spec of its run: pure."""

import sys
from collections.abc import Iterator
from math import floor
from typing import Any

from attrs import evolve

from backends.local import paths
from backends.local.batches import Batch, choose_batch
from backends.local.machine import Machine
from common.backend import JobSpec
from common.storage import with_job
from schemas.converter import unstructure
from schemas.train import Resources, TrainRequest, resolve
from schemas.values import MASK, FieldWarning

TRAINER = (sys.executable, "-P", "-m", "trainyard.trainer")


def build(request: TrainRequest, machine: Machine, spare_bytes: int) -> JobSpec:
    """The spec of a request that `limits.find_errors` has nothing against."""
    resources = lowered(request, machine)
    lane = "gpu" if resources.gpus else "cpu"
    batch = choose_batch(request, lane)
    ready = _absolute(resolve(evolve(request, resources=resources)))
    ready = evolve(
        ready,
        tuning_parameters=evolve(
            ready.tuning_parameters,
            batch_size=batch.size,
            micro_batch_size=batch.micro,
            gradient_accumulation_steps=batch.accumulation,
        ),
        extra_parameters=evolve(ready.extra_parameters, engine="text"),
    )
    return JobSpec(
        engine="text",
        argv=TRAINER,
        request=_without_masks(unstructure(ready)),
        options={"spare_bytes": spare_bytes},
        lane=lane,
        needs={"gpu": resources.gpus} if resources.gpus else {"cpu": 1},
        output=with_job(ready.artifacts.output_uri, request.job_id),
        log=with_job(ready.artifacts.log_uri, request.job_id),
        threads=min(resources.cpus, machine.cpus),
        deadline_minutes=resources.max_duration_minutes,
        warnings=tuple(_warnings(request, resources, batch)),
    )


def lowered(request: TrainRequest, machine: Machine) -> Resources:
    """What was asked for, and defaults as far as this machine has them."""
    wanted, asked = request.resources, request.asked
    gpus = wanted.gpus if "resources.gpus" in asked else min(wanted.gpus, len(machine.matching(wanted.gpu_type)))
    cpus = wanted.cpus if "resources.cpus" in asked else min(wanted.cpus, machine.cpus)
    have = floor(machine.memory_gib) or round(machine.memory_gib, 1)
    memory = wanted.memory_gb if "resources.memory_gb" in asked else min(wanted.memory_gb, have)
    return evolve(wanted, gpus=gpus, cpus=cpus, memory_gb=memory)


def _absolute(request: TrainRequest) -> TrainRequest:
    """Every local path as the run will find it, whatever its working directory."""

    def whole(uri: str) -> str:
        return str(paths.place(uri) or uri)

    name = request.base_model.model_name
    return evolve(
        request,
        base_model=evolve(request.base_model, model_name=str(paths.model_path(name) or name)),
        datasets=tuple(evolve(d, source=whole(d.source)) for d in request.datasets),
        artifacts=evolve(
            request.artifacts,
            log_uri=whole(request.artifacts.log_uri),
            output_uri=whole(request.artifacts.output_uri),
        ),
    )


def _warnings(request: TrainRequest, resources: Resources, batch: Batch) -> Iterator[FieldWarning]:
    wanted, tuning = request.resources, request.tuning_parameters
    if resources.gpus < wanted.gpus:
        yield FieldWarning("resources.gpus", "lowered from the default 1 to 0: this machine has no GPU")
    if resources.gpus == 0 and wanted.gpu_type is not None:
        yield FieldWarning("resources.gpu_type", "is not used: the job runs on the CPU")
    if resources.cpus < wanted.cpus:
        yield _lowered("resources.cpus", wanted.cpus, resources.cpus)
    if resources.memory_gb < wanted.memory_gb:
        yield _lowered("resources.memory_gb", wanted.memory_gb, resources.memory_gb)
    if batch.size != tuning.batch_size:
        text = (
            f"set to {batch.size} in place of the default {tuning.batch_size}, to fit the batch sizes that were given"
        )
        yield FieldWarning("tuning_parameters.batch_size", text)


def _lowered(path: str, default: float, have: float) -> FieldWarning:
    return FieldWarning(path, f"lowered from the default {default:g} to the {have:g} that this machine has")


def _without_masks(value: Any) -> Any:
    """The document without its secrets: the run finds those in `secrets.<n>`."""
    if isinstance(value, dict):
        return {key: None if item == MASK else _without_masks(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_masks(item) for item in value]
    return value
