"""What every option is, for those who show options, ask for them or describe them."""

from functools import cache
from typing import Any

import attrs
from attrs import frozen

from schemas.converter import unstructure
from schemas.diffusion.elsewhere import SAID_BY, ServiceOptions
from schemas.diffusion.option import GROUPS
from schemas.diffusion.options import Options
from schemas.fields import Kind, choices, is_list, item_type, kind_of, shape_of
from schemas.limits import Range

_WORDS = {bool: "boolean", int: "integer", float: "number", str: "string"}


@frozen(kw_only=True)
class Definition:
    """One option."""

    name: str
    #: `boolean`, `integer`, `number`, `string`, `list` or `json` (an object or list, or the path of a file with it).
    type: str
    default: Any
    choices: tuple[Any, ...]
    #: Whether null is one of its values.
    optional: bool
    #: Whether an empty text is one of its values.
    empty: bool
    #: Limits in words, as `≥ 1`.
    limits: str
    help: str
    group: str
    aliases: tuple[str, ...]
    #: Whether it may name a file or folder.
    path: bool
    #: Values that SimpleTuner has for it and this version has not.
    later: tuple[Any, ...]
    #: The field of a `/train` document that says it, where it is none of `extra_parameters`; else empty.
    said_by: str


@cache
def definitions() -> tuple[Definition, ...]:
    """All options, by group."""
    made = (
        _definition(item, cls)
        for cls in (Options, ServiceOptions)
        for item in attrs.fields(cls)
        if not item.metadata.get("internal")
    )
    return tuple(sorted(made, key=lambda found: list(GROUPS).index(found.group)))


def _definition(item: "attrs.Attribute[Any]", cls: type[Any]) -> Definition:
    said = item.metadata
    kind = shape_of(cls).fields[item.name].kind
    return Definition(
        name=item.name,
        type=_type(kind),
        default=unstructure(item.default),
        choices=_choices(kind.bare),
        optional=kind.optional,
        empty=said["empty"],
        limits=" and ".join(limit.words for limit in kind.limits if isinstance(limit, Range)),
        help=said["help"],
        group=said["group"],
        aliases=said["aliases"],
        path=said["path"],
        later=said["later"],
        said_by=SAID_BY.get(item.name, ""),
    )


def _choices(bare: Any) -> tuple[Any, ...]:
    """Those of a value, or of the items of a list."""
    return choices(kind_of(item_type(bare)).bare if is_list(bare) else bare)


def _type(kind: Kind) -> str:
    if values := choices(kind.bare):
        return _WORDS[type(values[0])]
    if kind.bare in _WORDS:
        return _WORDS[kind.bare]
    return "list" if is_list(kind.bare) else "json"
