"""What this machine has: taken once, when the backend is made."""

import os
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen

from common.devices import Device

_GIB = 1 << 30
_TRAINER_NEEDS = ("torch", "transformers", "peft", "accelerate")
_SOME_NEED = ("bitsandbytes", "boto3", "datasets", "obstore", "pyarrow", "trl")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


@frozen(kw_only=True)
class Machine:
    """Processors and memory that a run may use here, the GPUs, and the packages that are not installed.

    Without those in `lacking` nothing is trained; those in `absent` are needed by some jobs only.
    """

    cpus: int
    memory_gib: float
    devices: tuple[Device, ...] = ()
    lacking: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()

    @classmethod
    def here(cls, devices: Iterable[Device]) -> "Machine":
        return cls(
            cpus=len(os.sched_getaffinity(0)),
            memory_gib=_memory() / _GIB,
            devices=tuple(devices),
            lacking=tuple(name for name in _TRAINER_NEEDS if find_spec(name) is None),
            absent=frozenset(name for name in _SOME_NEED if find_spec(name) is None),
        )

    @property
    def kinds(self) -> Mapping[str, frozenset[str]]:
        """Of a machine with several kinds of GPU each kind's devices, under the name that a job's needs have for it."""
        names = sorted({d.name for d in self.devices})
        if len(names) < 2:
            return {}
        return {f"gpu:{name}": frozenset(d.index for d in self.devices if d.name == name) for name in names}

    def matching(self, gpu_type: str | None) -> tuple[str, ...]:
        """The indices of the devices that have `gpu_type` in their name; of all for None."""
        return tuple(d.index for d in self.devices if _is(d, gpu_type))

    def fitting(self, gpu_type: str | None, *, bf16: bool) -> tuple[str, ...]:
        """The indices of the devices of a type, with `bf16` only those that compute in it."""
        return tuple(d.index for d in self.devices if _is(d, gpu_type) and (d.has_bf16 or not bf16))


def _is(device: Device, gpu_type: str | None) -> bool:
    return (gpu_type or "").casefold() in device.name.casefold()


def _memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory: the machine's, or the control group's limit where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    folders = [cgroup, *_own_groups(proc, cgroup)]
    limits = [_number(folder / name) for folder in folders for name in _LIMITS]
    return min([total, *(limit for limit in limits if limit)])


def _own_groups(proc: Path, cgroup: Path) -> list[Path]:
    """The folders of this process's control group and of all above it."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")
    return [cgroup / own, *(cgroup / parent for parent in Path(own).parents)] if own else []


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
