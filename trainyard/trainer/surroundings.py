"""What a curve depends on besides the job itself: threads, the processor's abilities, versions."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "trainyard")


def surroundings(threads: int, more: tuple[str, ...] = ()) -> dict[str, Any]:
    """What must be equal for an equal curve; `more` packages that an engine computes with."""
    return {"threads": threads, "cpu": torch.backends.cpu.get_cpu_capability(), "versions": versions(more)}


def versions(more: tuple[str, ...] = ()) -> dict[str, str]:
    """Python and the packages that a result depends on."""
    return dict(_versions((*_PACKAGES, *more)))


@cache
def _versions(names: tuple[str, ...]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
