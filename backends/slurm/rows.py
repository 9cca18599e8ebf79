"""What Slurm's listings say, line by line."""

import re
from collections.abc import Iterable, Iterator, Mapping

from attrs import frozen

#: `<job id of ours>.<uid>.<attempt>`: by it a job is found again, and no reused number can be taken for it.
_NAME = re.compile(r"(?P<job>.+)\.(?P<uid>[0-9a-f]+)\.(?P<attempt>\d+)")

#: For `squeue -O`; a size only where Slurm would cut.
QUEUE_FIELDS = "JobID:|,Name:220|,State:|,RestartCnt:|,exit_code:|,Reason:200"
ACCOUNT_FIELDS = "JobIDRaw,JobName,State,ExitCode"
NODE_FIELDS = "%P|%a|%l|%c|%m|%G|%D"


@frozen(kw_only=True)
class Row:
    """One job of Slurm's. `status` is as of `wait`: 256 × the exit code + the signal."""

    id: int
    uid: str
    attempt: int
    state: str
    restarts: int = 0
    status: int = 0
    reason: str = ""

    @property
    def code(self) -> int | None:
        return None if self.signal else self.status >> 8

    @property
    def signal(self) -> int | None:
        return self.status & 127 or None


def name_of(job_id: str, uid: str, attempt: int) -> str:
    """The name of an attempt's job in Slurm."""
    return f"{job_id}.{uid}.{attempt}"


def queued(listing: str) -> list[Row]:
    """The jobs of ours that `squeue` lists."""
    found = []
    for line in listing.splitlines():
        fields = [part.strip() for part in line.split("|", 5)]
        if len(fields) < 6 or (named := _NAME.fullmatch(fields[1])) is None or not fields[0].isdigit():
            continue
        found.append(
            Row(
                id=int(fields[0]),
                uid=named["uid"],
                attempt=int(named["attempt"]),
                state=fields[2],
                restarts=_number(fields[3]),
                status=_number(fields[4]),
                reason=fields[5],
            )
        )
    return found


def accounted(listing: str) -> list[Row]:
    """The jobs of ours that `sacct -P` lists, the newest last."""
    found = []
    for line in listing.splitlines():
        number, _, rest = line.partition("|")
        name, _, rest = rest.partition("|")
        state, _, ended = rest.partition("|")
        if (named := _NAME.fullmatch(name)) is None or not number.isdigit() or not state:
            continue
        code, _, signal = ended.partition(":")
        found.append(
            Row(
                id=int(number),
                uid=named["uid"],
                attempt=int(named["attempt"]),
                state=state.split()[0],  # `CANCELLED by 0`
                status=_number(code) << 8 | _number(signal) & 127,
            )
        )
    return found


@frozen(kw_only=True)
class Nodes:
    """Nodes alike of one partition. `gpus` counts them by type; a GPU without a type has the type "gpu"."""

    partition: str
    default: bool
    up: bool
    minutes: float | None
    cpus: int
    memory_mib: int
    gpus: Mapping[str, int]
    count: int

    def gpus_of(self, gpu_type: str | None) -> int:
        """The most GPUs of one type that a job may have of a node; of any type for None."""
        if gpu_type is None:
            return max(self.gpus.values(), default=0)
        return max((n for kind, n in self.gpus.items() if gpu_type.casefold() in kind.casefold()), default=0)

    def __str__(self) -> str:
        gpus = ", ".join(f"{n} GPUs" if kind == "gpu" else f"{n} {kind}" for kind, n in self.gpus.items())
        return f"{self.count} × {self.cpus} CPUs, {self.memory_mib >> 10} GiB, {gpus or 'no GPU'}"


def nodes(listing: str) -> list[Nodes]:
    """What `sinfo -e` lists."""
    return list(_nodes(listing.splitlines()))


def _nodes(lines: Iterable[str]) -> Iterator[Nodes]:
    for line in lines:
        fields = line.strip().split("|")
        if len(fields) == 7:
            partition, available, limit, cpus, memory, gres, count = fields
            yield Nodes(
                partition=partition.removesuffix("*"),
                default=partition.endswith("*"),
                up=available == "up",
                minutes=_minutes(limit),
                cpus=_number(cpus),
                memory_mib=_number(memory),
                gpus=_gpus(gres),
                count=_number(count),
            )


def _gpus(gres: str) -> dict[str, int]:
    """Of `gpu:a100:4(S:0-1),gpu:2,shard:8`."""
    found: dict[str, int] = {}
    for part in re.sub(r"\([^)]*\)", "", gres).split(","):
        name, *rest = part.split(":")
        if name == "gpu" and rest:
            kind = rest[0] if len(rest) > 1 else "gpu"
            found[kind] = found.get(kind, 0) + _number(rest[-1])
    return found


def _minutes(limit: str) -> float | None:
    """Of `infinite`, `30:00`, `12:00:00`, `2-00:00:00`."""
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdigit() for part in parts) or len(parts) > 3:
        return None
    hours, minutes, seconds = [0] * (3 - len(parts)) + [int(part) for part in parts]
    return _number(days) * 1440 + hours * 60 + minutes + seconds / 60


def _number(text: str) -> int:
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0
