"""From a valid request and the cluster to the spec of its run: pure."""

from collections.abc import Mapping
from typing import Any

from attrs import asdict, evolve

from backends.engines.spec import build as engine_spec
from backends.slurm.cluster import Cluster
from backends.slurm.limits import spare_minutes, within_time
from backends.slurm.options import SlurmOptions
from common.backend import JobSpec
from common.settings import Settings
from schemas.train import TrainRequest

OPTIONS = "slurm"


def build(request: TrainRequest, cluster: Cluster, settings: Settings) -> JobSpec:
    """The spec of a request that `limits.find_errors` has nothing against."""
    given = SlurmOptions.of(request.extra_parameters.options)
    options = evolve(
        given,
        partition=given.partition or settings.slurm_partition,
        account=given.account or settings.slurm_account,
    )
    partition = cluster.partition(options.partition)
    request, warning = within_time(request, cluster, partition, spare_minutes(settings))
    machine = cluster.machine(request, options, partition)
    spec = engine_spec(request, machine, settings)
    asked: Mapping[str, Any] = spec.request["resources"]  # type: ignore[assignment]
    kind = next((d.name for d in machine.devices if d.index in machine.matching(request.resources.gpu_type)), None)
    ours = {
        **{name: value for name, value in asdict(options).items() if value is not None},
        "gpus": asked["gpus"],
        "gpu_type": kind if asked["gpus"] and request.resources.gpu_type is not None else None,
        "cpus": spec.threads,
        "memory_mib": max(int(asked["memory_gb"] * 1024), 1),
        "restarts": spec.engine != "command" and request.extra_parameters.max_retries > 0,
    }
    return evolve(
        spec,
        lane=partition or options.partition or "default",
        needs={},
        options={**spec.options, OPTIONS: ours},
        warnings=(*spec.warnings, *([warning] if warning else [])),
    )
