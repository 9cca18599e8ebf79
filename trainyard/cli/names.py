"""Whether our generic top-level names are ours here: another package may have one that comes first on the path."""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import trainyard

GENERIC = ("schemas", "common", "backends", "service")


def taken_names(home: Path | None = None) -> list[str]:
    """A sentence for each name that does not lead into our own installation (`home`)."""
    ours = home or Path(trainyard.__file__).resolve().parent.parent
    return [sentence for name in GENERIC if (sentence := _trouble(name, find_spec(name), ours)) is not None]


def _trouble(name: str, spec: ModuleSpec | None, ours: Path) -> str | None:
    if spec is None:
        return f"the package {name!r} of Trainyard is missing from {ours}: install Trainyard again"
    folders = [Path(f).resolve() for f in spec.submodule_search_locations or ()]
    place = folders[0] if folders else Path(spec.origin or name).resolve()
    if place == ours / name:
        return None
    owners = _owners(name)
    who = f"of the package {', '.join(owners)}" if owners else "of no installed package"
    return (
        f"the name {name!r} is Trainyard's ({ours / name}), but Python finds {place} first, {who}: "
        "install Trainyard in a virtual environment of its own, and start it without PYTHONPATH and outside that folder"
    )


def _owners(name: str) -> list[str]:
    from importlib.metadata import packages_distributions

    return sorted(set(packages_distributions().get(name, ())) - {"trainyard"})
