"""The memory that there is: how much a process may have, has, and has had at most."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import torch


def peak(device: torch.device) -> int:
    """The most bytes that this process had at once: on the device, or, for the CPU, in the host's memory."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """Bytes of the host's memory that this process holds now."""
    return _status("VmRSS")


def mapped(suffix: str) -> tuple[int, int]:
    """Bytes that are mapped from files of that ending, and how many of them are in memory."""
    size = read = 0
    inside = False
    for line in _lines(Path("/proc/self/smaps")):
        first, _, rest = line.partition(" ")
        if not first.endswith(":"):
            inside = line.endswith(suffix)
        elif inside and first == "Size:":
            size += int(rest.split()[0]) * 1024
        elif inside and first == "Rss:":
            read += int(rest.split()[0]) * 1024
    return size, read


def available(device: torch.device, memory_gb: float | None = None, processes: int = 1) -> int:
    """Bytes that this process may come to hold in all: on its device, or in the host's memory (`memory_gb` of it).

    The host's memory is shared by so many `processes` of the run.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + int(torch.cuda.memory_reserved(device))
    shared = [*_cgroup_limits(), *([int(memory_gb * (1 << 30))] if memory_gb else [])]
    free = _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    return min([resident() + free // processes, *(limit // processes for limit in shared)])


def _cgroup_limits() -> Iterator[int]:
    """The limits of this process's control group and of those above it, version 2 or 1."""
    groups = [line.partition("::")[2] for line in _lines(Path("/proc/self/cgroup")) if line.startswith("0::")]
    folder = Path("/sys/fs/cgroup" + (groups[0] if groups else "")).resolve()
    candidates = [f / "memory.max" for f in (folder, *folder.parents)]
    for path in (*candidates, Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        for line in _lines(path):
            if line.isdigit():
                yield int(line)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().split("\n")
    except OSError:
        return []


def _status(name: str) -> int:
    return _kilobytes(Path(f"/proc/{os.getpid()}/status"), name)


def _kilobytes(path: Path, name: str) -> int:
    """The value of a line of `/proc`, in bytes; 0 where there is no such line."""
    line = next((line for line in _lines(path) if line.startswith(f"{name}:")), f"{name}: 0")
    return int(line.split()[1]) * 1024
