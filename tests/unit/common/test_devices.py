"""The GPUs of a machine, as a tool in the place of `nvidia-smi` tells of them."""

from pathlib import Path

import pytest

from common.devices import Device, detect
from common.errors import SettingError

NEW = """#!/bin/sh
case "$1" in
  *compute_cap*)
    echo "0, NVIDIA H100 80GB HBM3, 81559, 9.0"
    echo "1, Tesla T4, 15360, 7.5"
    echo "2, Odd One, [N/A], [N/A]" ;;
  *) exit 2 ;;
esac
"""
OLD = """#!/bin/sh
case "$1" in
  *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
  *) echo "0, Tesla V100-SXM2-16GB, 16160" ;;
esac
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def write(text: str) -> None:
        path = tmp_path / "nvidia-smi"
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return write


async def test_names_memory_and_abilities_are_read(tool) -> None:
    tool(NEW)
    found = await detect(None)
    assert found[:2] == (Device("0", "NVIDIA H100 80GB HBM3", 81559, 9.0), Device("1", "Tesla T4", 15360, 7.5))
    assert [device.has_bf16 for device in found] == [True, False, True]  # of the last one nothing is known
    assert [device.index for device in await detect("1")] == ["1"]
    with pytest.raises(SettingError, match="names \\['7'\\]"):
        await detect("7")


async def test_an_old_tool_that_knows_less_is_asked_for_less(tool) -> None:
    tool(OLD)
    assert await detect(None) == (Device("0", "Tesla V100-SXM2-16GB", 16160),)


async def test_without_the_tool_devices_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert await detect(None) == ()
    assert await detect("0, 3") == (Device("0", "unknown"), Device("3", "unknown"))
