"""JSON files that an option names in place of what is in them."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from schemas.strict_json import JSONProblem, parse_json

_LARGEST_BYTES: Final = 4 << 20
_QUOTED_NUMBER = re.compile(r" \([-+.\deE…]+\)")


class FileProblem(ValueError):
    """The file can't be taken."""


def read_json(path: Path) -> object:
    """What is in a regular file. Raises `FileProblem`."""
    try:
        return parse_json(read_regular(path))
    except JSONProblem as e:
        raise FileProblem(f"{path}: {_QUOTED_NUMBER.sub('', str(e))}") from e
    except (OSError, ValueError) as e:
        if isinstance(e, FileProblem):
            raise
        why = e.strerror if isinstance(e, OSError) else "its name can't be one of a file"
        raise FileProblem(f"{str(path)[:200]} can't be read: {why}") from e


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file; of a pipe or device nothing is read, and none is waited for.

    Raises `FileProblem`, `OSError`, and `ValueError` where the path can't be one.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileProblem(f"{path} is no regular file; give a file of JSON")
        with open(descriptor, "rb", closefd=False) as file:
            found = file.read(_LARGEST_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(found) > _LARGEST_BYTES:
        raise FileProblem(f"{path} is larger than {_LARGEST_BYTES >> 20} MiB; give a file of JSON")
    return found


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
