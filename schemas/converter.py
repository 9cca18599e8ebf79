"""The one converter between JSON and the frozen classes: every error of a document at once, each with its path.

A class may settle what its fields say together: its classmethod `settle(given, document, trail)` is called with what
was read so far (only what the document gave, and what was right) before the class is made. It may change `given`, and
notes errors and warnings at the trail. Its classmethod `respell(document, trail)` is called before, with the document
itself, and gives back what is read in its place: for a class that takes several spellings of one thing.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Generic, TypeVar, Union, get_args, get_origin

import attrs
import cattrs

from schemas import writing
from schemas.fields import choices, is_list, is_mapping, kind_of, places, shape_of
from schemas.limits import Limit
from schemas.masking import looks_secret
from schemas.reading import (
    Hook,
    enum_hook,
    literal_hook,
    read_any,
    read_bool,
    read_float,
    read_int,
    read_path,
    read_secret,
    read_str,
    trail_now,
)
from schemas.trail import Invalid, MaskGiven, Trail, nearest
from schemas.values import FieldError, FieldWarning, Secret

T = TypeVar("T")

converter = cattrs.Converter(detailed_validation=False)


@attrs.frozen
class Structured(Generic[T]):
    """A document as read: its value, or all that was wrong with it; and what the sender should know."""

    value: T | None
    errors: tuple[FieldError, ...] = ()
    warnings: tuple[FieldWarning, ...] = ()


def structure(
    document: object,
    cls: type[T],
    *,
    strict: bool = False,
    masked: bool = False,
    hidden: bool = False,
    prefix: str = "",
) -> Structured[T]:
    """Read a JSON value as `cls`; never raises for what is in the document.

    `strict`: unknown fields are errors, not warnings. `masked`: the document is one of our own, whose secrets are
    masks. `hidden`: messages name no value of it, only kinds. `prefix`: the path of this document inside the one
    that the sender wrote.
    """
    trail = Trail(prefix, places(cls), strict=strict, masked=masked, hidden=hidden)
    token = trail_now.set(trail)
    try:
        value = _hook_of(cls)(document, cls)
    except Invalid as e:
        trail.refuse(e)
        value = None
    finally:
        trail_now.reset(token)
    return Structured(None if trail.faults else value, trail.errors(), trail.warnings())


def unstructure(value: object) -> Any:
    """Plain JSON of a value of ours: secrets, and the secret parts of URLs, come out as the mask."""
    return converter.unstructure(value)


def _hook_of(tp: Any) -> Hook:
    if isinstance(tp, type) and issubclass(tp, Enum):  # before cattrs sees a str or an int in it
        return enum_hook(tp)
    return converter.get_structure_hook(tp)


def _class_hook(cls: type[Any]) -> Hook:
    shape = shape_of(cls)
    hooks = {
        name: (_limited(field.kind.bare, field.kind.limits), field.type, _is_leaf(field.kind.bare))
        for name, field in shape.fields.items()
    }
    find, rest, required = hooks.get, shape.rest, shape.required
    has_required = frozenset(required).issubset
    settle: Callable[[dict[str, Any], dict[str, Any], Trail], None] | None = getattr(cls, "settle", None)
    respell: Callable[[dict[str, Any], Trail], dict[str, Any]] | None = getattr(cls, "respell", None)
    phrase = f"an object with {', '.join(required)}" if required else "an object"

    def read(document: Any, _type: Any) -> Any:
        if not isinstance(document, dict):
            raise Invalid(phrase, document)
        trail = trail_now.get()
        parts, before = trail.parts, trail.faults
        if respell is not None:
            document = respell(document, trail)
        given: dict[str, Any] = {}
        others: dict[str, Any] = {}
        for key, item in document.items():
            if item is None:
                continue
            known = find(key)
            if known is None:
                others[key] = item
                continue
            read_item, type_, is_leaf = known
            if is_leaf:
                try:
                    given[key] = read_item(item, type_)
                except Invalid as e:
                    trail.refuse(e, key, secret=looks_secret(key))
                continue
            parts.append(key)
            try:
                found = read_item(item, type_)
                if found is not None:
                    given[key] = found
            except Invalid as e:
                trail.refuse(e, secret=looks_secret(key))
            parts.pop()
        if others:
            _take_others(others, given, rest, hooks, trail)
        if trail.faults != before or not has_required(given):
            for name in required:
                if name not in given and document.get(name) is None:
                    written = nearest(name, others)
                    trail.error("is required" if written is None else f"is required; {written!r} is unknown", name)
        if settle is not None:
            settle(given, document, trail)
        return cls(**given) if trail.faults == before else None

    return read


def _take_others(
    others: dict[str, Any], given: dict[str, Any], rest: str | None, known: Mapping[str, Any], trail: Trail
) -> None:
    if rest is not None:
        trail.free(others)
        given[rest] = others
        return
    for key, item in others.items():
        trail.unknown(str(key), item, known)


def _wrapped_hook(tp: Any) -> Hook:
    kind = kind_of(tp)
    inner = _limited(kind.bare, kind.limits)

    def read(value: Any, type_: Any) -> Any:
        return None if value is None and kind.optional else inner(value, type_)

    return read


def _limited(bare: Any, limits: tuple[Limit, ...]) -> Hook:
    """The hook of a bare type that also holds its limits, with one phrase for all of it."""
    inner = _hook_of(bare)
    if not limits:
        return inner
    noun = next((limit.noun for limit in limits if limit.noun), _noun(bare))
    phrase = " ".join([noun, *filter(None, (limit.words for limit in limits))])
    holds, *others = (limit.holds for limit in limits)
    secret = bare is Secret

    def read(value: Any, type_: Any) -> Any:
        try:
            found = inner(value, type_)
        except MaskGiven:
            raise
        except Invalid as e:
            raise Invalid(e.phrase if secret else phrase, e.value, e.hint, known=e.known, secret=e.secret) from None
        if found is None:  # a list whose items were refused, each at its own path
            return None
        plain = found.reveal() if secret else found
        if not holds(plain) or (others and not all(test(plain) for test in others)):
            raise Invalid(phrase, value, secret=secret)
        return found

    return read


def _noun(bare: Any) -> str:
    nouns: dict[Any, str] = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    if bare is Secret:
        return "a string"
    if is_list(bare):
        return "a list"
    return "an object" if is_mapping(bare) else nouns.get(bare, "a value")


def _is_leaf(bare: Any) -> bool:
    """Is it read without a look at the trail's place: no value has places below it?"""
    return bare in (int, float, str, bool, Path, Secret) or bool(choices(bare))


def _list_hook(tp: Any) -> Hook:
    make: Any = get_origin(tp) or tp
    inner_type = (get_args(tp) or (Any,))[0]
    inner = _hook_of(inner_type)

    def read(value: Any, _type: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise Invalid("a list", value, secret=kind_of(inner_type).bare is Secret)
        trail = trail_now.get()
        parts, before = trail.parts, trail.faults
        found = []
        for n, item in enumerate(value):
            parts.append(n)
            try:
                found.append(inner(item, inner_type))
            except Invalid as e:
                trail.refuse(e)
            parts.pop()
        return make(found) if trail.faults == before else None

    return read


def _mapping_hook(tp: Any) -> Hook:
    key_type, item_type = get_args(tp) or (str, Any)
    read_key, read_item = _hook_of(key_type), _hook_of(item_type)

    def read(value: Any, _type: Any) -> Any:
        if not isinstance(value, dict):
            raise Invalid("an object", value, secret=kind_of(item_type).bare is Secret)
        trail = trail_now.get()
        parts, before = trail.parts, trail.faults
        found = {}
        for key, item in value.items():
            if item is None:
                continue
            parts.append(key)
            try:
                found[read_key(key, key_type)] = read_item(item, item_type)
            except Invalid as e:
                trail.refuse(e, secret=looks_secret(str(key)))
            parts.pop()
        return found if trail.faults == before else None

    return read


def _union_hook(tp: Any) -> Hook:
    members = [(member, _hook_of(member)) for member in get_args(tp)]

    def read(value: Any, _type: Any) -> Any:
        phrases = []
        for member, hook in members:
            try:
                return hook(value, member)
            except Invalid as e:
                phrases.append(e.phrase)
        raise Invalid(" or ".join(phrases), value)

    return read


def _is_wrapped(tp: Any) -> bool:
    kind = kind_of(tp)
    return kind.optional or bool(kind.limits) or kind.bare is not tp


def _is_union(tp: Any) -> bool:
    return get_origin(kind_of(tp).bare) is Union or type(tp).__name__ == "UnionType"


def _register() -> None:
    leaves = {int: read_int, float: read_float, str: read_str, bool: read_bool, Path: read_path, Secret: read_secret}
    for leaf, hook in leaves.items():
        converter.register_structure_hook(leaf, hook)
    converter.register_structure_hook_func(lambda tp: tp is Any or tp is object, read_any)
    converter.register_structure_hook_factory(attrs.has, _class_hook)
    converter.register_structure_hook_factory(lambda tp: bool(choices(tp)), literal_hook)
    converter.register_structure_hook_factory(is_list, _list_hook)
    converter.register_structure_hook_factory(is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(_is_union, _union_hook)
    converter.register_structure_hook_factory(_is_wrapped, _wrapped_hook)
    writing.register(converter)


_register()
