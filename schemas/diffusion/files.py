"""JSON files that an option names in place of what is in them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from schemas.strict_json import JSONProblem, parse_json

_LARGEST_BYTES: Final = 4 << 20


class FileProblem(ValueError):
    """The file can't be taken."""


def read_json(path: Path) -> object:
    """What is in a file. Raises `FileProblem`."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            raise FileProblem(f"{path} is larger than {_LARGEST_BYTES >> 20} MiB; give a file of JSON")
        return parse_json(path.read_bytes())
    except JSONProblem as e:
        raise FileProblem(f"{path}: {e}") from e
    except (OSError, ValueError) as e:
        if isinstance(e, FileProblem):
            raise
        why = e.strerror if isinstance(e, OSError) else "its name can't be one of a file"
        raise FileProblem(f"{str(path)[:200]} can't be read: {why}") from e


def entries_at(document: object, folder: Path) -> object:
    """The entries of a dataloader with absolute folders of pictures, those that are relative below `folder`."""
    if not isinstance(document, list):
        return document
    return [_entry_at(entry, folder) if isinstance(entry, dict) else entry for entry in document]


def _entry_at(entry: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    place = entry.get("instance_data_dir")
    return {**entry, "instance_data_dir": absolute(place, folder)} if isinstance(place, str) and place else {**entry}


def absolute(text: str, folder: Path) -> str:
    """A local path as it is from everywhere; URIs stay as they are."""
    if "://" in text:
        return text
    home = os.path.expanduser(text) if text == "~" or text.startswith("~/") else text  # noqa: PTH111
    return os.path.normpath(folder / home)
