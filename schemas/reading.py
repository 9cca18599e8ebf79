"""How single values are read: exactly as JSON has them, nothing coerced, each refusal a phrase."""

from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from pathlib import Path
from typing import Any, Final

from schemas.fields import choices
from schemas.strict_json import MAX_INTEGER
from schemas.trail import Invalid, MaskGiven, Trail
from schemas.values import MASK, Secret

Hook = Callable[[Any, Any], Any]

#: The reading that is under way.
trail_now: ContextVar[Trail] = ContextVar("trail")

_FLOAT_LIMIT: Final = float("inf")


def read_int(value: Any, _type: Any) -> int:
    """A whole number; JSON has one kind of number, so 16.0 is 16."""
    given = value
    if value.__class__ is float and value.is_integer():
        value = int(value)
    if value.__class__ is not int:
        raise Invalid("an integer", value)
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise Invalid("an integer", given, "integers go up to 2^53")
    return int(value)


def read_float(value: Any, _type: Any) -> float:
    """A finite number; an integer stays one."""
    if (value.__class__ is not float and value.__class__ is not int) or not -_FLOAT_LIMIT < value < _FLOAT_LIMIT:
        raise Invalid("a number", value)
    number: float = value
    return number


def read_str(value: Any, _type: Any) -> str:
    """A string; not the masked form of a URL that we ourselves have shown."""
    if not isinstance(value, str):
        raise Invalid("a string", value)
    if MASK in value and "://" in value and not trail_now.get().masked:
        raise MaskGiven
    return value


def read_bool(value: Any, _type: Any) -> bool:
    """True or false, never 0 or 1."""
    if value is True or value is False:
        return value is True
    raise Invalid("true or false", value)


def read_path(value: Any, type_: Any) -> Path:
    """A path, given as a string."""
    return Path(read_str(value, type_))


def read_secret(value: Any, _type: Any) -> Secret:
    """A secret that is there, and is not the mask of one."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value:
        raise Invalid("a string that is not empty", value, secret=True)
    if MASK in value and not trail_now.get().masked:
        raise MaskGiven
    return Secret(value)


def read_any(value: Any, _type: Any) -> Any:
    """JSON of any shape."""
    trail_now.get().free(value)
    return value


def literal_hook(tp: Any) -> Hook:
    """One of a `Literal`'s values."""
    return one_of(choices(tp))


def enum_hook(tp: type[Enum]) -> Hook:
    """One of an enum's values, read as its member."""
    members = {member.value: member for member in tp}
    read_value = one_of(tuple(members))
    return lambda value, type_: value if isinstance(value, tp) else members[read_value(value, type_)]


def one_of(allowed: tuple[Any, ...]) -> Hook:
    """One of these values and no look-alike: 1 is not true."""
    words = [item for item in allowed if isinstance(item, str)]
    phrase = ("one of " if len(allowed) > 1 else "") + ", ".join(repr(item) for item in allowed)

    def read(value: Any, _type: Any) -> Any:
        for item in allowed:
            if item == value and item.__class__ is value.__class__:
                return item
        raise Invalid(phrase, value, known=words)

    return read
