"""What an attrs class says about its own document: each field's type, limits, default and meaning, looked up once."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import attrs

from schemas.limits import Doc, Limit

#: Metadata of a field that is no part of the document (it is set by code).
INTERNAL: Final[Mapping[str, bool]] = {"internal": True}
#: Metadata of a field that is another spelling of others: read, then merged into them, never written.
SPELLING: Final[Mapping[str, bool]] = {"spelling": True}
#: Metadata of the field that takes every key the class does not know.
REST: Final[Mapping[str, bool]] = {"rest": True}


@attrs.frozen
class Kind:
    """A type without its wrappings: the bare type, its limits, whether null is one of its values."""

    bare: Any
    limits: tuple[Limit, ...] = ()
    optional: bool = False
    doc: str = ""


@attrs.frozen
class Field:
    """One field of a document."""

    name: str
    type: Any
    kind: Kind
    required: bool
    default: Any
    spelling: bool = False


@attrs.frozen
class Shape:
    """All fields of a class by name, and the name of the one that takes the keys it does not know."""

    cls: type[Any]
    fields: Mapping[str, Field]
    required: tuple[str, ...]
    rest: str | None = None


def kind_of(tp: Any) -> Kind:
    """Unwrap `Annotated` and `| None`, from the outside in."""
    limits: list[Limit] = []
    doc, optional = "", False
    while True:
        if get_origin(tp) is Annotated:
            tp, *extra = get_args(tp)
            limits = [item for item in extra if isinstance(item, Limit)] + limits
            doc = doc or next((item.text for item in reversed(extra) if isinstance(item, Doc)), "")
        elif get_origin(tp) in (Union, types.UnionType) and type(None) in get_args(tp):
            others = tuple(item for item in get_args(tp) if item is not type(None))
            optional, tp = True, others[0] if len(others) == 1 else Union[others]  # noqa: UP007
        else:
            return Kind(tp, tuple(limits), optional, doc)


_shapes: dict[type[Any], Shape] = {}
_places: dict[type[Any], Mapping[str, str]] = {}


def shape_of(cls: type[Any]) -> Shape:
    """The shape of an attrs class."""
    if cls not in _shapes:
        _shapes[cls] = _look_at(cls)
    return _shapes[cls]


def _look_at(cls: type[Any]) -> Shape:
    attrs.resolve_types(cls, include_extras=True)
    fields: dict[str, Field] = {}
    rest = None
    for item in attrs.fields(cls):
        if item.metadata.get("rest"):
            rest = item.name
        if item.metadata.get("rest") or item.metadata.get("internal") or not item.init:
            continue
        kind = kind_of(item.type)
        if help_text := item.metadata.get("help"):
            kind = attrs.evolve(kind, doc=help_text)
        required, spelling = item.default is attrs.NOTHING, bool(item.metadata.get("spelling"))
        fields[item.name] = Field(item.name, item.type, kind, required, _default(item), spelling)
    return Shape(cls, fields, tuple(name for name, field in fields.items() if field.required), rest)


def _default(item: Any) -> Any:
    default = item.default
    factory = getattr(default, "factory", None)
    if factory is None:
        return default
    return None if default.takes_self else factory()


def item_type(tp: Any) -> Any:
    """The type of a list's items or a mapping's values; None where the type holds neither."""
    bare = kind_of(tp).bare
    origin, args = get_origin(bare), get_args(bare)
    if origin in (tuple, list, frozenset, set):
        return args[0]
    if is_mapping(bare) and args:
        return args[1]
    return None


def is_mapping(bare: Any) -> bool:
    """Is it `dict`, `Mapping` or one of them with arguments?"""
    origin = get_origin(bare) or bare
    return isinstance(origin, type) and issubclass(origin, Mapping)


def is_list(bare: Any) -> bool:
    """Is it `tuple`, `list` or a set of one kind of item?"""
    return (get_origin(bare) or bare) in (tuple, list, frozenset, set)


def choices(bare: Any) -> tuple[Any, ...]:
    """The values of a `Literal`; empty for another type."""
    return get_args(bare) if get_origin(bare) is Literal else ()


def places(root: type[Any]) -> Mapping[str, str]:
    """Every field name of a document to the one dotted path it has there; names with several paths are left out."""
    if root not in _places:
        _places[root] = _find_places(root)
    return _places[root]


def _find_places(root: type[Any]) -> Mapping[str, str]:
    found: dict[str, list[str]] = {}

    def visit(cls: type[Any], prefix: str) -> None:
        for name, field in shape_of(cls).fields.items():
            path = f"{prefix}.{name}" if prefix else name
            if not field.spelling:
                found.setdefault(name, []).append(path)
            bare, mark = field.kind.bare, ""
            if is_list(bare):
                bare, mark = kind_of(item_type(bare)).bare, "[]"
            if attrs.has(bare) and not field.spelling:
                visit(bare, path + mark)

    visit(root, "")
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}
