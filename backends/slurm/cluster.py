"""What the cluster has, as far as it is known, and what of it a request could be given."""

from collections.abc import Sequence

from attrs import field, frozen

from backends.engines.machine import Machine
from backends.slurm.options import SlurmOptions
from backends.slurm.rows import Nodes
from common.devices import Device
from schemas.train import TrainRequest

_UNKNOWN_CPUS = 1 << 16
_UNKNOWN_GIB = float(1 << 20)
_NONE = 1000.0


@frozen(kw_only=True)
class Cluster:
    """All kinds of nodes, by partition. Empty while Slurm never answered: then nothing is refused for its size."""

    nodes: Sequence[Nodes] = ()
    #: Packages that are not installed with the service; the runs have the same installation.
    lacking: tuple[str, ...] = ()
    absent: frozenset[str] = field(factory=frozenset)

    @property
    def known(self) -> bool:
        return bool(self.nodes)

    def partitions(self) -> list[str]:
        return sorted({kind.partition for kind in self.nodes})

    def partition(self, wanted: str | None) -> str | None:
        """The partition of a job: the one that it wants, or the cluster's default; None where there is no such."""
        names = {kind.partition for kind in self.nodes if wanted in (None, kind.partition) and (wanted or kind.default)}
        return min(names, default=None)

    def kinds(self, partition: str | None) -> list[Nodes]:
        return [kind for kind in self.nodes if kind.partition == partition]

    def machine(self, request: TrainRequest, options: SlurmOptions, partition: str | None) -> Machine:
        """The kind of node that fits a request best, for what is asked for and then for what is not."""
        kinds = self.kinds(partition) or self.nodes
        if not kinds:
            return self._unknown(request, options)
        best = kinds[0] if len(kinds) == 1 else min(kinds, key=lambda kind: _misfit(kind, request))
        devices = (kind for kind, count in best.gpus.items() for _ in range(count))
        return Machine(
            cpus=best.cpus,
            memory_gib=best.memory_mib / 1024,
            devices=tuple(Device(str(n), kind) for n, kind in enumerate(devices)),
            lacking=self.lacking,
            absent=self.absent,
            nodes=options.nodes,
            backend="slurm",
            called=f"a node of partition {partition!r}" if partition else "a node of the cluster",
        )

    def _unknown(self, request: TrainRequest, options: SlurmOptions) -> Machine:
        name = request.resources.gpu_type or "GPU"
        return Machine(
            cpus=_UNKNOWN_CPUS,
            memory_gib=_UNKNOWN_GIB,
            devices=tuple(Device(str(n), name) for n in range(request.resources.gpus)),
            lacking=self.lacking,
            absent=self.absent,
            nodes=options.nodes,
            backend="slurm",
            called="the cluster",
        )

    def satisfying(self, request: TrainRequest, partition: str | None) -> int:
        """How many nodes of a partition have all that was asked for."""
        return sum(kind.count for kind in self.kinds(partition) if not _misfit(kind, request)[0])


def _misfit(kind: Nodes, request: TrainRequest) -> tuple[float, float, int, int]:
    """How badly a kind of node fits: first by what was asked for, then by defaults, then by its size."""
    wanted, asked = request.resources, request.asked
    gpus = kind.gpus_of(wanted.gpu_type)
    short = {
        "resources.gpus": _shortfall(gpus, wanted.gpus),
        "resources.gpu_type": 0.0 if gpus or wanted.gpu_type is None else _NONE / 2 if kind.gpus else _NONE,
        "resources.cpus": _shortfall(kind.cpus, wanted.cpus),
        "resources.memory_gb": _shortfall(kind.memory_mib, wanted.memory_gb * 1024),
    }
    known = sum(value for name, value in short.items() if name in asked)
    return known, sum(short.values()), -kind.cpus, -kind.memory_mib


def _shortfall(have: float, wanted: float) -> float:
    """By how much less there is, 0 for enough."""
    if have >= wanted:
        return 0.0
    return wanted / have - 1 if have else _NONE
