"""Secret values taken out of bytes that come in pieces."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from urllib.parse import urlsplit

from schemas.values import MASK

_SHORTEST = 4


class Masker:
    """Replaces every secret value of at least 4 characters by `••••`, the longest first.

    Also masked: a value as it is written inside JSON, and the password and query of a value that is a URL.
    """

    mask_bytes = MASK.encode()

    def __init__(self, values: Iterable[str]) -> None:
        found = {form.encode("utf-8", "surrogatepass") for value in values for form in _forms(value)}
        self.needles = tuple(sorted(found, key=lambda needle: (-len(needle), needle)))
        self.longest = max((len(needle) for needle in self.needles), default=0)

    @cached_property
    def pattern(self) -> re.Pattern[bytes] | None:
        """Made when it is needed: many a job is looked after for long before it says a word."""
        return re.compile(b"|".join(map(re.escape, self.needles))) if self.needles else None

    def __repr__(self) -> str:
        return f"Masker({len(self.needles)} values)"

    def mask(self, data: bytes) -> bytes:
        """Whole data."""
        return self.pattern.sub(self.mask_bytes, data) if self.pattern else data

    def text(self, text: str) -> str:
        """Whole text."""
        return self.mask(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def value(self, value: object) -> object:
        """Any JSON value; its texts are masked, however deep they lie."""
        if type(value) is str:
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def stream(self) -> "MaskStream":
        """For data that comes in pieces."""
        return MaskStream(self)

    def across(self, data: bytes, position: int) -> int:
        """How many bytes from `position` on belong to a secret that begins before it."""
        for match in self.pattern.finditer(data) if self.pattern else ():
            if match.start() < position < match.end():
                return match.end() - position
        return 0

    def held(self, data: bytes) -> int:
        """The length of the longest end of `data` that may be the beginning of a secret."""
        longest = 0
        for needle in self.needles:
            start = max(len(data) - len(needle) + 1, 0)
            while (start := data.find(needle[:1], start, len(data) - longest)) >= 0:
                if needle.startswith(data[start:]):
                    longest = len(data) - start
                    break
                start += 1
        return longest


class MaskStream:
    """Feeds return what is safe to show; the beginning of a possible secret is held back (`pending` bytes)."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._held = b""

    @property
    def pending(self) -> int:
        return len(self._held)

    def feed(self, data: bytes) -> bytes:
        pattern = self._masker.pattern
        if pattern is None:
            return data
        data = self._held + data
        cut = len(data) - self._masker.held(data)
        out = []
        position = 0
        for match in pattern.finditer(data):
            if match.start() >= cut:
                break
            out += [data[position : match.start()], self._masker.mask_bytes]
            position = match.end()
        cut = max(cut, position)
        self._held = data[cut:]
        return b"".join([*out, data[position:cut]])

    def flush(self) -> bytes:
        """What was held back, when nothing more will come."""
        rest, self._held = self._held, b""
        return self._masker.mask(rest)


def _forms(value: str) -> Iterable[str]:
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    if "://" in value:
        try:
            parts = urlsplit(value)
            forms |= {parts.password or "", parts.query}
        except ValueError:
            pass
    return {form for form in forms if len(form) >= _SHORTEST}
