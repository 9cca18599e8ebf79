"""What this cluster can't do for a request: refused at once, with what would run."""

from collections.abc import Iterator
from math import ceil, floor

from attrs import evolve

from backends.engines.limits import find_errors as engine_errors
from backends.engines.own_trainer import NOT_ALLOWED
from backends.slurm.cluster import Cluster
from backends.slurm.options import SlurmOptions
from common.settings import Settings
from schemas.train import TrainRequest
from schemas.values import FieldError, FieldWarning

#: Of Slurm's time limit beyond the deadline, which the guard keeps; and of it beyond the guard's grace.
_SPARE_MINUTES, _AFTER_GRACE = 5, 2
_AT = "extra_parameters"


def find_errors(request: TrainRequest, cluster: Cluster, settings: Settings) -> list[FieldError]:
    """Every field that can't be done on the cluster, as far as that is known."""
    options = SlurmOptions.of(request.extra_parameters.options)
    wanted = options.partition or settings.slurm_partition
    partition = cluster.partition(wanted)
    errors = [FieldError(path, message) for path, message in _partition(cluster, wanted, partition)]
    errors += engine_errors(request, cluster.machine(request, options, partition))
    sizes = {error.path for error in errors if error.path.startswith("resources.")}
    own = (
        *_count(request, cluster, options, partition, sizes),
        *_time(request, cluster, partition, spare_minutes(settings)),
    )
    errors += [FieldError(path, message) for path, message in own]
    if request.extra_parameters.engine == "command" and settings.allow_command is False:
        errors.append(FieldError(f"{_AT}.command", NOT_ALLOWED))
    return errors


def spare_minutes(settings: Settings) -> int:
    """What a job's time limit in Slurm has beyond the deadline, so that the guard's word comes first."""
    return max(_SPARE_MINUTES, ceil(settings.grace_seconds / 60) + _AFTER_GRACE)


def within_time(
    request: TrainRequest, cluster: Cluster, partition: str | None, spare: int
) -> tuple[TrainRequest, FieldWarning | None]:
    """The request with a default deadline that its partition gives; the warning where it was lowered."""
    most, wanted = _longest(cluster, partition, spare), request.resources.max_duration_minutes
    if most is None or wanted <= most:
        return request, None
    lowered = evolve(request, resources=evolve(request.resources, max_duration_minutes=most))
    message = f"lowered from the default {wanted:g} to the {most:g} that partition {partition!r} gives to a job"
    return lowered, FieldWarning("resources.max_duration_minutes", message)


def _partition(cluster: Cluster, wanted: str | None, partition: str | None) -> Iterator[tuple[str, str]]:
    if cluster.known and partition is None:
        names = ", ".join(cluster.partitions())
        if wanted is None:
            yield f"{_AT}.partition", f"is required: the cluster has no default partition; one of {names} would run"
        else:
            yield f"{_AT}.partition", f"the cluster has no partition {wanted!r}; one of {names} would run"


def _count(
    request: TrainRequest, cluster: Cluster, options: SlurmOptions, partition: str | None, sizes: set[str]
) -> Iterator[tuple[str, str]]:
    """Too few nodes that have all of what was asked for, though each of it can be had."""
    kinds = cluster.kinds(partition)
    if not kinds or sizes:
        return
    have = cluster.satisfying(request, partition)
    shown = "; ".join(map(str, kinds))
    if not have:
        asked = [name for name in ("gpus", "gpu_type", "cpus", "memory_gb") if f"resources.{name}" in request.asked]
        path = f"resources.{asked[0]}" if asked else "resources.gpus"
        yield path, f"no node of partition {partition!r} has all that resources ask for; it has {shown}"
    elif options.nodes > have:
        would = f"nodes: {have} would run (it has {shown})"
        yield f"{_AT}.nodes", f"{options.nodes} asked, partition {partition!r} has {have} that fit; {would}"


def _time(request: TrainRequest, cluster: Cluster, partition: str | None, spare: int) -> Iterator[tuple[str, str]]:
    at, most = "resources.max_duration_minutes", _longest(cluster, partition, spare)
    wanted = request.resources.max_duration_minutes
    if most is not None and at in request.asked and wanted > most:
        yield (
            at,
            f"{wanted:g} asked, partition {partition!r} gives a job {most + spare:g}, of which {spare} "
            f"are kept to end in; max_duration_minutes: {most:g} would run",
        )


def _longest(cluster: Cluster, partition: str | None, spare: int) -> float | None:
    """The longest deadline that a partition gives; None: any."""
    limits = [kind.minutes for kind in cluster.kinds(partition) if kind.minutes is not None]
    return max(floor(min(limits)) - spare, 1) if limits else None
