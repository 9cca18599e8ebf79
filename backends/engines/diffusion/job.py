"""The diffusion job of a request on a machine."""

from attrs import evolve

from backends.engines.machine import Machine
from backends.engines.sizes import precision_of, processes_of
from schemas.converter import unstructure
from schemas.diffusion.request import PREFIX, Job, read_job
from schemas.train import TrainRequest
from schemas.values import FieldError


def read(request: TrainRequest, machine: Machine) -> tuple[Job | None, list[FieldError]]:
    """What is to be done, or all that is wrong with it; a default precision is one that the GPUs compute in."""
    precision = precision_of(request, machine)
    lowered = evolve(request, customization=evolve(request.customization, precision=precision))
    document = unstructure(lowered)
    document[PREFIX] |= dict(request.extra_parameters.options)
    return read_job(document, processes_of(request, machine), request.asked.__contains__)
