"""Values that every contract shares: a secret, and a remark about one field of a document."""

import hmac
from typing import Any, Final, NoReturn, final

import attrs

MASK: Final = "••••"


@final
class Secret:
    """A string that shows itself as `••••` wherever it is printed; `reveal()` is the only way to its text.

    It cannot be pickled or dumped as JSON, is never falsy, and copies of it are itself.
    """

    __slots__ = ("_text",)
    _text: str

    def __init__(self, text: str) -> None:
        object.__setattr__(self, "_text", text)

    def reveal(self) -> str:
        """The text itself: for the place that uses it, never for one that shows it."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return True

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Secret":
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret is frozen")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Secret is frozen")

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: hand its text over by reveal() where it is needed")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret has no state to hand out: use reveal() where its text is needed")


@attrs.frozen
class _Said:
    """A sentence about one field, and its dotted path (the document itself is `$`)."""

    path: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Its form on the wire."""
        return {"path": self.path, "message": self.message}

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@attrs.frozen
class FieldError(_Said):
    """What is wrong with one field."""


@attrs.frozen
class FieldWarning(_Said):
    """What the sender should know about one field of a document that was taken all the same."""


def joined(*parts: str | int) -> str:
    """The dotted path of nested keys and list positions; `$` for none.

    >>> joined("datasets", 0, "format")
    'datasets[0].format'
    """
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path = f"{path}.{part}" if path else part
    return path or "$"
