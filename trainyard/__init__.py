"""Trainyard: one JSON document becomes a training run (README.md).

What people outside import is here and is looked up at first use, so that `import trainyard` costs nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.backend import BaseTrainerBackend
    from trainyard.client import APIError, CallError, Client, UnreachableError

    __version__: str

__all__ = ["APIError", "BaseTrainerBackend", "CallError", "Client", "UnreachableError", "__version__"]

_HOMES = {
    "APIError": "trainyard.client",
    "BaseTrainerBackend": "common.backend",
    "CallError": "trainyard.client",
    "Client": "trainyard.client",
    "UnreachableError": "trainyard.client",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _HOMES:
        raise AttributeError(f"module 'trainyard' has no attribute {name!r}; it has {', '.join(__all__)}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("trainyard")
    except PackageNotFoundError:  # a source tree that was not installed
        return "0+source"
