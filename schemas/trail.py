"""What is noted while a document is read: where the reader is, what was wrong, what was not known."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from schemas.uri import conceal
from schemas.values import MASK, FieldError, FieldWarning, joined

#: More remarks of one kind than this are counted, not listed: a hostile body makes no answer larger than itself.
MOST_NOTES: Final = 500
_MOST_GUESSES: Final = 40


class Invalid(Exception):
    """A value that a type refuses: the phrase that completes "must be …", and a hint or the values that were meant."""

    def __init__(
        self, phrase: str, value: object, hint: str = "", *, known: Iterable[str] = (), secret: bool = False
    ) -> None:
        super().__init__(phrase)
        self.phrase, self.value, self.hint, self.known, self.secret = phrase, value, hint, known, secret

    def message(self, *, secret: bool = False) -> str:
        """The whole sentence; the value itself is left out of it where it is a secret."""
        got = kind_word(self.value) if secret or self.secret else shown(self.value)
        guess = nearest(self.value, self.known) if self.known else None
        hint = f"did you mean {guess!r}?" if guess else self.hint
        return f"must be {self.phrase}, got {got}" + (f"; {hint}" if hint else "")


class MaskGiven(Invalid):
    """The mask of a secret stands where the secret should."""

    def __init__(self) -> None:
        super().__init__("the secret itself", MASK)

    def message(self, *, secret: bool = False) -> str:
        return f"holds {MASK}, the mask of a secret: give the secret itself, or leave it out"


class Trail:
    """One reading of one document."""

    __slots__ = (
        *("_errors", "_guesses", "_more_warnings", "_warnings"),
        *("faults", "hidden", "masked", "parts", "places", "strict"),
    )

    def __init__(
        self, prefix: str, places: Mapping[str, str], *, strict: bool, masked: bool, hidden: bool = False
    ) -> None:
        self.parts: list[str | int] = [prefix] if prefix else []
        self.places = places
        self.strict = strict
        self.masked = masked
        self.hidden = hidden
        self._errors: list[FieldError] = []
        self._warnings: list[FieldWarning] = []
        self._more_warnings = 0
        self.faults = 0  #: how much was wrong so far
        self._guesses = 0

    def path(self, *below: str | int) -> str:
        """The dotted path of the present place, or of one below it."""
        return joined(*(_short(part) for part in (*self.parts, *below)))

    def error(self, message: str, *below: str | int) -> None:
        """Note what is wrong here, or at a place below."""
        self.faults += 1
        if self.faults <= MOST_NOTES:
            self._errors.append(FieldError(self.path(*below), message))

    def refuse(self, refusal: Invalid, *below: str | int, secret: bool = False) -> None:
        """Note here, or at a place below, what a type refused; its sentence is made only if it will be listed."""
        self.error(refusal.message(secret=secret or self.hidden) if self.faults < MOST_NOTES else "", *below)

    def warning(self, message: str, *below: str | int) -> None:
        """Note what the sender should know about this place, or one below."""
        if len(self._warnings) < MOST_NOTES:
            self._warnings.append(FieldWarning(self.path(*below), message))
        else:
            self._more_warnings += 1

    def unknown(self, key: str, value: object, known: Iterable[str]) -> None:
        """Note a key that the class does not have: a warning, or an error where the sender asked for strictness."""
        note = self.error if self.strict else self.warning
        note(f"is not a known field{self._nearest(key, known)}", key)
        self.parts.append(key)
        self.free(value)
        self.parts.pop()

    def free(self, value: object) -> None:
        """Look for masks given as secrets in a value whose shape nobody knows."""
        if isinstance(value, str):
            if MASK in value and not self.masked:
                self.error(MaskGiven().message())
        elif isinstance(value, dict | list):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                self.parts.append(key)
                self.free(item)
                self.parts.pop()

    def errors(self) -> tuple[FieldError, ...]:
        """Every error; a last one counts those that were too many."""
        if left := self.faults - len(self._errors):
            return (*self._errors, FieldError("$", f"has {left} more errors"))
        return tuple(self._errors)

    def warnings(self) -> tuple[FieldWarning, ...]:
        """Every warning; a last one counts those that were too many."""
        if left := self._more_warnings:
            return (*self._warnings, FieldWarning("$", f"has {left} more unknown fields"))
        return tuple(self._warnings)

    def _nearest(self, key: str, known: Iterable[str]) -> str:
        self._guesses += 1
        if self._guesses > _MOST_GUESSES:
            return ""
        if key in self.places:
            return f"; did you mean {self.places[key]!r}?"
        guess = nearest(key, known)
        return f"; did you mean {guess!r}?" if guess else ""


def nearest(word: object, known: Iterable[str]) -> str | None:
    """The known word that is most like this one; None where none is much like it."""
    if not isinstance(word, str) or len(word) > 64:
        return None
    folded = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), folded, n=1)
    return folded[close[0]] if close else None


def shown(value: object) -> str:
    """A value as a message names it: short, and without what may be secret in it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        text = conceal(value) if "://" in value or "@" in value else value
        return repr(text if len(text) <= 80 else text[:80] + "…")
    if isinstance(value, int | float):
        text = repr(value)
        return text if len(text) <= 40 else text[:40] + "…"
    return kind_word(value)


def kind_word(value: object) -> str:
    """The kind of a JSON value in words."""
    if value is None or isinstance(value, bool) or value == "":
        return "null" if value is None else "an empty string" if value == "" else "true or false"
    words: dict[type[Any], str] = {
        str: "a string",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return next((word for kind, word in words.items() if isinstance(value, kind)), type(value).__name__)


def _short(part: str | int) -> str | int:
    return part if isinstance(part, int) or len(part) <= 80 else part[:80] + "…"
