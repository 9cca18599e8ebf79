"""What this machine has: taken once, when the backend is made."""

import os
from collections.abc import Iterable
from pathlib import Path

from backends.engines.machine import Machine, missing_packages
from common.devices import Device

_GIB = 1 << 30
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")


def this_machine(devices: Iterable[Device]) -> Machine:
    """Processors and memory that a run may use here, and the packages of this installation."""
    lacking, absent = missing_packages()
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_gib=_memory() / _GIB,
        devices=tuple(devices),
        lacking=lacking,
        absent=absent,
    )


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
