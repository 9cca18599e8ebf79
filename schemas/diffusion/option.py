"""How an option is defined: its default and meaning, the group that it is shown in, its other spellings."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

#: Groups in the order in which they are shown, each with its title.
GROUPS: Final[Mapping[str, str]] = {
    "model": "Model and precision",
    "adapter": "Adapter",
    "training": "Length, batches, checkpoints",
    "optimizer": "Optimizer and learning rate",
    "loss": "Noise and loss",
    "data": "Data",
    "caching": "Caches",
    "validation": "Validation",
    "reporting": "Reports and scripts",
    "service": "What the service does",
}


def option(
    group: str,
    default: Any,
    meaning: str,
    *,
    aliases: tuple[str, ...] = (),
    path: bool = False,
    empty: bool = False,
    values: Mapping[str, Any] | None = None,
    later: tuple[Any, ...] = (),
) -> Any:
    """A field of `Options`.

    `aliases` are other names of it, `values` other spellings of its values, `later` values that this version refuses.
    `path`: it may name a file or folder, which is made absolute when a job is accepted. `empty`: an empty text is a
    value, where else it means "not set".
    """
    metadata = {"group": group, "help": meaning, "aliases": aliases, "path": path, "empty": empty}
    return attrs.field(default=default, metadata=metadata | {"values": dict(values or {}), "later": later})
