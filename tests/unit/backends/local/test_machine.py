"""What this machine has."""

import os
from pathlib import Path

from backends.engines.machine import Machine
from backends.local.machine import _memory, this_machine
from common.devices import Device


def test_the_machine_has_what_this_process_may_use() -> None:
    machine = this_machine([Device("0", "A100")])
    assert machine.cpus == len(os.sched_getaffinity(0))
    assert 0 < machine.memory_gib < 1 << 20


def test_devices_are_matched_by_a_part_of_their_name() -> None:
    machine = Machine(cpus=1, memory_gib=1, devices=(Device("0", "NVIDIA A100"), Device("GPU-7", "NVIDIA H100")))
    assert machine.matching("a100") == ("0",)
    assert machine.matching(None) == ("0", "GPU-7")
    assert machine.matching("L4") == ()


def test_the_limit_of_the_control_group_counts_where_it_is_less(tmp_path: Path) -> None:
    own = tmp_path / "cgroup" / "a" / "b"
    own.mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n")
    total = _memory(tmp_path / "none", tmp_path / "none")
    (own / "memory.max").write_text("max\n")
    assert _memory(tmp_path / "proc", tmp_path / "cgroup") == total
    (own.parent / "memory.max").write_text(f"{64 << 20}\n")
    assert _memory(tmp_path / "proc", tmp_path / "cgroup") == 64 << 20
