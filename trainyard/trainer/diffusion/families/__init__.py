"""The families of models that can be trained, a module each; how one is added: `README.md` beside this file."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from trainyard.trainer.failures import ConfigError

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.families.family import Family

#: Of this folder no family: the shape of one, and what several share.
_SHARED = frozenset({"family", "parts"})
_SPELLINGS = {"pixart": "pixart_sigma"}


def names() -> list[str]:
    """Every family there is; nothing is imported."""
    return sorted(module.name for module in iter_modules(__path__) if module.name not in _SHARED)


def find(name: str) -> "Family":
    """The family of a name. Raises `ConfigError` with those there are."""
    name = _SPELLINGS.get(name, name)
    if name not in names():
        raise ConfigError(f"extra_parameters.model_family: {name!r} is not one of {', '.join(names())}")
    family: Family = import_module(f"{__name__}.{name}").FAMILY
    return family
