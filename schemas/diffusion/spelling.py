"""The many ways in which a configuration spells one thing: dashes, aliases, numbers and switches as text."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import attrs

from schemas.fields import Kind, choices, is_list, item_type, kind_of, shape_of
from schemas.strict_json import parse_json
from schemas.trail import Trail

_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
#: Texts that say of an option that it is not set.
UNSET: Final = frozenset({"", "None", "null"})
_LONGEST_NUMBER: Final = 40
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)


@attrs.frozen
class Written:
    """How one option may be written."""

    kind: Kind
    empty: bool
    values: Mapping[Any, Any]
    later: tuple[Any, ...]


def undashed(document: Mapping[str, Any]) -> dict[str, Any]:
    """`--name` is `name`; where a document has both, the one without dashes wins. More dashes make no name."""
    plain = {key: value for key, value in document.items() if not _is_dashed(key)}
    return {key[2:]: value for key, value in document.items() if _is_dashed(key)} | plain


def _is_dashed(key: str) -> bool:
    return key.startswith("--") and key[2:3] not in ("", "-")


def respelled(
    cls: Any,
    document: Mapping[str, Any],
    trail: Trail,
    *,
    later: Mapping[str, tuple[Any, ...]],
    beginnings: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The document in the words of a class; keys that the class does not have are left as they are.

    `later` names what is not in this version, with values that ask for nothing: they are dropped, others are errors,
    as is every name with one of the `beginnings` that is switched on.
    """
    given: dict[str, Any] = {}
    for name, value in _named(cls, document, trail).items():
        if name in later or name.startswith(beginnings):
            if not _asks_nothing(value, later.get(name, (None, False, "", 0, "none", "no"))):
                trail.error("is not in this version; leave it out", name)
        elif (written := _table(cls).get(name)) is None:
            given[name] = value
        elif not _is_unset(value, written):
            meant = _meant(value, written)
            if asked := [one for one in (meant if isinstance(meant, list) else [meant]) if one in written.later]:
                trail.error(f"{asked[0]!r} is not in this version; {_would_run(written)} would run", name)
            else:
                given[name] = meant
    return given


def _named(cls: Any, document: Mapping[str, Any], trail: Trail) -> dict[str, Any]:
    """By their first names; two names of one option must agree."""
    found = dict(document)
    for alias, name in _aliases(cls).items():
        value = found.pop(alias, None)
        if value is None:
            continue
        if found.get(name) not in (None, value):
            trail.error(f"differs from {trail.path(name)}: give one of them, or the same value", alias)
        found[name] = value
    return found


@cache
def _table(cls: Any) -> Mapping[str, Written]:
    kinds = shape_of(cls).fields
    said = {item.name: item.metadata for item in attrs.fields(cls) if item.name in kinds}
    return {
        name: Written(kinds[name].kind, bool(m.get("empty")), m.get("values") or {}, m.get("later") or ())
        for name, m in said.items()
    }


@cache
def _aliases(cls: Any) -> Mapping[str, str]:
    return {alias: item.name for item in attrs.fields(cls) for alias in item.metadata.get("aliases", ())}


def _is_unset(value: Any, written: Written) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, str)
        and value in UNSET
        and not (value == "" and written.empty)
        and value not in choices(written.kind.bare)
    )


def _meant(value: Any, written: Written) -> Any:
    """The value in the option's own type, where the text can be read as one."""
    bare = written.kind.bare
    if isinstance(value, str | int | float) and value in written.values:
        return written.values[value]
    if bare is bool:
        return _switch(value)
    if bare in (int, float) or any(isinstance(choice, int) for choice in choices(bare)):
        return _number(value)
    if bare is str:
        return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(value, str) and not choices(bare):
        return _structure(value, is_list(bare))
    return value


def _switch(value: Any) -> Any:
    word = value.strip().lower() if isinstance(value, str) else str(value) if value in (0, 1) else None
    return True if word in _TRUE else False if word in _FALSE else value


def _number(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > _LONGEST_NUMBER or not _NUMBER.fullmatch(value):
        return value
    return float(value) if re.search(r"[.eE]", value) else int(value)


def _structure(text: str, commas: bool) -> Any:
    """JSON in a text; else, where a list is wanted, what stands between commas."""
    if is_json(text):
        return json_in(text)
    return [_number(part.strip()) for part in text.split(",") if part.strip()] if commas else text


def items(value: Any) -> list[Any] | None:
    """Of a list, or a text with commas, what is in it; None of another value."""
    found = _structure(value, commas=True) if isinstance(value, str) else value
    return list(found) if isinstance(found, list | tuple) else None


def is_json(text: str) -> bool:
    """Whether a text is to be an object or a list, not a name."""
    return text.lstrip().startswith(("{", "["))


def json_in(text: str) -> Any:
    """The object or list that a text holds; the text itself where it is none."""
    try:
        return parse_json(text.encode("utf-8", "surrogatepass"))
    except ValueError:
        return text


def _asks_nothing(value: Any, nothing: Iterable[Any]) -> bool:
    """Whether it is one of these values, as itself or as text."""
    texts = {str(item).lower() for item in nothing if not isinstance(item, dict | list | range)}
    number = _number(value)
    if isinstance(number, int) and any(number in item for item in nothing if isinstance(item, range)):
        return not isinstance(value, bool)
    return value in tuple(nothing) or (isinstance(value, str) and value.strip().lower() in texts)


def _would_run(written: Written) -> str:
    bare = written.kind.bare
    known = [repr(choice) for choice in choices(kind_of(item_type(bare)).bare if is_list(bare) else bare)]
    return known[0] if len(known) == 1 else ", ".join(known[:-1]) + f" or {known[-1]}"
