"""The GPUs of this machine and who holds them: one pool, shared by every backend that runs here."""

import asyncio
import csv
import io
import shutil
from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from common.errors import SettingError

_QUERY_SECONDS = 20
_FIELDS = ("index", "name", "memory.total", "compute_cap")
_BF16_SINCE = 8.0


@frozen
class Device:
    """One GPU: what goes into `CUDA_VISIBLE_DEVICES`, its name, memory and compute capability (0 = unknown)."""

    index: str
    name: str
    memory_mib: int = 0
    compute_cap: float = 0.0

    @property
    def has_bf16(self) -> bool:
        """Whether it computes in bf16; where nothing is known of it that is taken to be so."""
        return not self.compute_cap or self.compute_cap >= _BF16_SINCE


class DevicePool:
    """Gives devices to runs, never one to two. Kept in memory; a restarted service takes up what its handles hold."""

    def __init__(self, devices: Iterable[Device] = ()) -> None:
        self.devices = tuple(devices)
        self._held: dict[str, tuple[str, ...]] = {}

    def take(self, run: str, count: int) -> tuple[str, ...] | None:
        """`count` free devices for `run`, the same again if it holds some already; None when too few are free."""
        if run in self._held:
            return self._held[run]
        free = self.free()
        if len(free) < count:
            return None
        self._held[run] = free[:count]
        return self._held[run]

    def hold(self, run: str, indices: Iterable[str]) -> None:
        """Take up what a run of an earlier service process holds."""
        self._held[run] = tuple(indices)

    def give_back(self, run: str) -> None:
        self._held.pop(run, None)

    def free(self) -> tuple[str, ...]:
        held = {index for indices in self._held.values() for index in indices}
        return tuple(d.index for d in self.devices if d.index not in held)

    def matching(self, gpu_type: str) -> int:
        """How many devices have `gpu_type` in their name."""
        wanted = gpu_type.casefold()
        return sum(wanted in d.name.casefold() for d in self.devices)

    def listing(self) -> tuple[Mapping[str, object], ...]:
        free = set(self.free())
        return tuple(
            {"index": d.index, "name": d.name, "memory_mib": d.memory_mib, "free": d.index in free}
            for d in self.devices
        )


async def detect(only: str | None) -> tuple[Device, ...]:
    """The machine's GPUs by `nvidia-smi`; `only` (`0,1`) limits and orders them, or names them where there is no tool.

    Raises `SettingError` where the tool is there and does not know an index of `only`.
    """
    found = await _query() if shutil.which("nvidia-smi") else None
    if only is None:
        return tuple(found or ())
    wanted = [part.strip() for part in only.split(",") if part.strip()]
    if found is None:
        return tuple(Device(index, "unknown") for index in wanted)
    by_index = {d.index: d for d in found}
    if missing := [index for index in wanted if index not in by_index]:
        raise SettingError(f"TRAINYARD_LOCAL_DEVICES names {missing}, this machine has {sorted(by_index)}")
    return tuple(by_index[index] for index in wanted)


async def _query() -> list[Device]:
    """What `nvidia-smi` knows; an old one knows no compute capability, and says so by failing."""
    return await _ask(_FIELDS) or await _ask(_FIELDS[:3])


async def _ask(fields: Sequence[str]) -> list[Device]:
    process = await asyncio.create_subprocess_exec(
        "nvidia-smi",
        f"--query-gpu={','.join(fields)}",
        "--format=csv,noheader,nounits",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_QUERY_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return []
    rows = csv.reader(io.StringIO(output.decode(errors="replace")), skipinitialspace=True)
    return [
        Device(row[0], row[1], int(row[2]) if row[2].isdigit() else 0, *map(_number, row[3:]))
        for row in rows
        if len(row) == len(fields) and row[0].isdigit()
    ]


def _number(text: str) -> float:
    """Of `8.6`; 0 where the driver does not know it (`[N/A]`)."""
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0
