"""How large a job is here: what was asked for, and of defaults what this machine has."""

from math import floor

from attrs import evolve

from backends.engines.machine import Machine
from backends.engines.methods import needs_bf16
from schemas.diffusion.request import asked_processes
from schemas.text_options import TextOptions
from schemas.train import Resources, TrainRequest
from schemas.train_terms import Precision


def lowered(request: TrainRequest, machine: Machine) -> Resources:
    """What was asked for, and defaults as far as this machine has them."""
    wanted, asked = request.resources, request.asked
    gpus = wanted.gpus if "resources.gpus" in asked else min(wanted.gpus, len(machine.matching(wanted.gpu_type)))
    cpus = wanted.cpus if "resources.cpus" in asked else min(wanted.cpus, machine.cpus)
    have = floor(machine.memory_gib) or round(machine.memory_gib, 1)
    memory = wanted.memory_gb if "resources.memory_gb" in asked else min(wanted.memory_gb, have)
    return evolve(wanted, gpus=gpus, cpus=cpus, memory_gb=memory)


def processes_of(request: TrainRequest, machine: Machine) -> int:
    """Of the whole run: on each of its machines one for each GPU; on the CPU as many as were asked for."""
    return machine.nodes * (lowered(request, machine).gpus or processes_asked(request) or 1)


def processes_asked(request: TrainRequest) -> int | None:
    """What the engine's own keys say of it."""
    extra = request.extra_parameters
    return asked_processes(extra.options) if extra.engine == "diffusion" else TextOptions.of(extra.options).processes


def precision_of(request: TrainRequest, machine: Machine) -> Precision:
    """The one asked for; of the default bf16 what the GPUs compute in."""
    custom, gpus = request.customization, lowered(request, machine).gpus
    kept = not gpus or "customization.precision" in request.asked or not needs_bf16(custom)
    return custom.precision if kept or len(machine.fitting(request.resources.gpu_type, bf16=True)) >= gpus else "fp16"
