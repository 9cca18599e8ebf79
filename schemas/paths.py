"""Relative paths of a `/train` document, made absolute when it is accepted."""

import os.path
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.uri import scheme_of

_PATH_BEGINNINGS = ("/", "./", "../", "~/")

_Place = Callable[[str], str]


def absolute_paths(
    document: Mapping[str, Any], cwd: Path, *, exists: Callable[[str], bool] = lambda _path: False
) -> Mapping[str, Any]:
    """The document with its sources, outputs and local model at absolute paths; itself where they are; URIs stay.

    A model's name, and the source of a dataset of format `hf`, may be a hub id: it is taken for a path when it begins
    like one (`/`, `./`, `../`, `~/`) or when `exists` says so of the path below `cwd`. Of a command those arguments are
    paths that are one word beginning with `./` or `../`.
    """

    def place(text: str) -> str:
        return _absolute(text, cwd) if text and scheme_of(text) is None else text

    def place_or_hub_id(text: str) -> str:
        if not text or scheme_of(text) is not None:
            return text
        if text.startswith(_PATH_BEGINNINGS) or text in (".", "..", "~") or exists(_absolute(text, cwd)):
            return _absolute(text, cwd)
        return text

    changes: dict[str, Any] = {}
    for name, fields, how in (
        ("base_model", ("model_name",), place_or_hub_id),
        ("artifacts", ("log_uri", "output_uri"), place),
    ):
        given = document.get(name)
        if (found := _changed(given, fields, how)) is not given:
            changes[name] = found
    given = document.get("datasets")
    if isinstance(given, list):
        placed = [_changed(d, ("source",), place_or_hub_id if _by_hub(d) else place) for d in given]
        if any(new is not old for new, old in zip(placed, given, strict=True)):
            changes["datasets"] = placed
    extra = document.get("extra_parameters")
    if isinstance(extra, dict) and isinstance(command := extra.get("command"), list):
        placed = [_argument(part, cwd) for part in command]
        if placed != command:
            changes["extra_parameters"] = {**extra, "command": placed}
    return {**document, **changes} if changes else document


def _argument(part: Any, cwd: Path) -> Any:
    """An argument of a command; a text of several words is no path."""
    is_path = isinstance(part, str) and part.startswith(("./", "../")) and len(part.split()) == 1
    return _absolute(part, cwd) if is_path else part


def _by_hub(dataset: Any) -> bool:
    return isinstance(dataset, dict) and dataset.get("format") == "hf"


def _changed(value: Any, fields: tuple[str, ...], how: _Place) -> Any:
    """The object with what `how` makes of these fields; itself where that is nothing new."""
    if not isinstance(value, dict):
        return value
    changes = {}
    for name in fields:
        text = value.get(name)
        if isinstance(text, str) and (found := how(text)) != text:
            changes[name] = found
    return {**value, **changes} if changes else value


def _absolute(text: str, cwd: Path) -> str:
    home = os.path.expanduser(text) if text == "~" or text.startswith("~/") else text  # noqa: PTH111
    return os.path.normpath(os.path.join(cwd, home))  # noqa: PTH118
