"""Which pictures a job's validation is made of, as far as the options tell it; without torch."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from attrs import frozen

from schemas.diffusion import Options
from schemas.diffusion.validation_options import sizes
from trainyard.trainer.diffusion.validation.library import LIBRARY
from trainyard.trainer.failures import ConfigError

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME_CHARACTERS = 64
_LIBRARY = "extra_parameters.user_prompt_library"


@frozen
class Prompt:
    """A prompt, the name that people know it by, and the one that its files have: no other prompt's."""

    name: str
    text: str
    file: str


@frozen
class Plan:
    """Prompts and sizes; `why_not`: the reason that there are no pictures and can't be any on demand."""

    prompts: tuple[Prompt, ...]
    negative: str
    sizes: tuple[tuple[int, int], ...]
    external: bool
    why_not: str | None

    @classmethod
    def of(cls, options: Options) -> "Plan":
        """Raises `ConfigError` where a library can't be read."""
        external = options.validation_method == "external-script"
        prompts = _prompts(options)
        why_not = None
        if options.validation_disable:
            why_not = "validation_disable is set"
        elif not prompts and not external:
            why_not = "the job has no validation_prompt"
        return cls(prompts, options.validation_negative_prompt, sizes(options.validation_resolution), external, why_not)

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything whose embedding is needed."""
        if self.why_not is not None or self.external:
            return ()
        return tuple(dict.fromkeys([*(p.text for p in self.prompts), self.negative]))


def preview_steps(steps: int, every: int) -> list[int]:
    """The sampling steps that are shown: the first, each `every`-th after it, the last.

    >>> preview_steps(20, 4)
    [1, 5, 9, 13, 17, 20]
    """
    return sorted({*range(1, steps + 1, every), steps})


def _prompts(options: Options) -> tuple[Prompt, ...]:
    found: list[tuple[str, str]] = []
    if options.validation_prompt:
        found.append(("validation", options.validation_prompt))
    if options.user_prompt_library:
        found += _library(options.user_prompt_library).items()
    if options.validation_prompt_library:
        found += LIBRARY.items()
    return tuple(_named(found))


def _named(found: Iterable[tuple[str, str]]) -> Iterable[Prompt]:
    taken: set[str] = set()
    for name, text in found:
        plain = _UNSAFE.sub("_", name)[:_NAME_CHARACTERS].strip("_") or "prompt"
        file, count = plain, 1
        while file.lower() in taken:  # two names that differ in what a file can't be called, or in case only
            count += 1
            file = f"{plain}-{count}"
        taken.add(file.lower())
        yield Prompt(name, text, file)


def _library(given: str) -> dict[str, str]:
    """The prompts of a file, or of a JSON object written in its place."""
    at = _LIBRARY
    if not given.lstrip().startswith("{"):
        at = f"{_LIBRARY}: {given}"
        try:
            given = Path(given).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise ConfigError(f"{at}: can't be read: {getattr(e, 'strerror', None) or e}") from e
    try:
        found: Any = json.loads(given)
    except ValueError as e:
        raise ConfigError(f"{at}: is not JSON: {e}") from e
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{at}: an object of prompts by their names would be right")
    if bad := [name for name, text in found.items() if not isinstance(text, str) or not text.strip()]:
        raise ConfigError(f"{at}: the prompt of {bad[0]!r} is no text")
    return found
