"""Relative paths of a `/train` document, made absolute when it is accepted."""

import os.path
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.uri import scheme_of

_PATH_BEGINNINGS = ("/", "./", "../", "~/")


def absolute_paths(
    document: Mapping[str, Any], cwd: Path, *, exists: Callable[[Path], bool] = lambda _path: False
) -> dict[str, Any]:
    """A copy whose sources, outputs and local model lie at absolute paths; URIs stay as they are.

    A model's name, and the source of a dataset of format `hf`, may be a hub id: it is taken for a path when it begins
    like one (`/`, `./`, `../`, `~/`) or when `exists` says so of the path below `cwd`.
    """

    def place(text: Any) -> Any:
        return _absolute(text, cwd) if isinstance(text, str) and text and scheme_of(text) is None else text

    def place_or_hub_id(text: Any) -> Any:
        if not isinstance(text, str) or not text or scheme_of(text) is not None:
            return text
        if text.startswith(_PATH_BEGINNINGS) or text in (".", "..", "~") or exists(Path(_absolute(text, cwd))):
            return _absolute(text, cwd)
        return text

    def place_source(dataset: Any) -> Any:
        by_hub = isinstance(dataset, Mapping) and dataset.get("format") == "hf"
        return _changed(dataset, source=place_or_hub_id if by_hub else place)

    found = dict(document)
    if "base_model" in found:
        found["base_model"] = _changed(found["base_model"], model_name=place_or_hub_id)
    if "artifacts" in found:
        found["artifacts"] = _changed(found["artifacts"], log_uri=place, output_uri=place)
    if isinstance(found.get("datasets"), list):
        found["datasets"] = [place_source(dataset) for dataset in found["datasets"]]
    return found


def _changed(value: Any, **changes: Callable[[Any], Any]) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: changes[key](item) if key in changes else item for key, item in value.items()}


def _absolute(text: str, cwd: Path) -> str:
    home = os.path.expanduser(text) if text == "~" or text.startswith("~/") else text  # noqa: PTH111
    return os.path.normpath(os.path.join(cwd, home))  # noqa: PTH118
