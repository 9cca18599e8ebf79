"""Local models, data sets and folders, looked at by `stat` when a job is submitted."""

import os
import re
from pathlib import Path

from common.storage import local_path, scheme

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_LONGEST_SHOWN = 200
_BEGINNINGS = ("/", "./", "../", "~")


def model_path(name: str) -> Path | None:
    """The folder that a model's name stands for; None for a hub id or another scheme."""
    if scheme(name) == "file" and ("://" in name or name.startswith(_BEGINNINGS) or name in (".", "..")):
        return place(name)
    return None


def place(uri: str) -> Path | None:
    """The absolute path of a local URI; None for another scheme."""
    path = local_path(uri)
    if path is None:
        return None
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # `~somebody` whom nobody knows
        return path.absolute()


def model_problem(name: str) -> str | None:
    """Why the base model can't be loaded here; a hub id is looked up by the run alone."""
    path = model_path(name)
    if path is None:
        if _HUB_ID.fullmatch(name):
            return None
        kind = scheme(name)
        what = f"{kind}://" if kind != "file" else f"{name!r} is neither a hub id nor a path, and so"
        return f"{what} is not in this version of local; a hub id (owner/name) or a local folder (/…) would run"
    if (absent := _absent(path, "folder")) is not None:
        return f"{absent}; give a folder that exists, or a hub id (owner/name)"
    if not path.is_dir():
        return f"{path} is not a folder; give the folder that holds config.json and the weights"
    if _absent(path / "config.json", "file") is None:
        return None
    if _absent(path / "adapter_config.json", "file") is None:
        return (
            f"{path} holds an adapter, and going on with one is not in this version of local; "
            "give the folder of a whole model"
        )
    return f"{path} holds no config.json; give the folder of a model as save_pretrained writes it"


def dataset_problem(source: str) -> str | None:
    """Why a file of rows can't be read."""
    path = place(source)
    if path is None:
        return None
    if (absent := _absent(path, "file")) is not None:
        return f"{absent}; give a JSONL file that exists"
    if not path.is_file():
        return f"{path} is not a file; give a JSONL file"
    if not os.access(path, os.R_OK):
        return f"the service may not read {path}; give it the right to, or another file"
    if path.stat().st_size == 0:
        return f"{path} is empty; give a JSONL file with at least one row"
    return None


def folder_problem(uri: str) -> str | None:
    """Why nothing could be written under a folder, which need not exist yet."""
    path = place(uri)
    if path is None:
        return None
    try:
        present = next(p for p in (path, *path.parents) if p.exists())
    except OSError as e:
        return f"{_shown(path)} can't be looked at: {e.strerror}; give another folder"
    if not present.is_dir():
        return f"{present} is not a folder; give a path below one"
    if not os.access(present, os.W_OK | os.X_OK):
        return f"the service may not write in {present}; give it the right to, or another folder"
    return None


def _absent(path: Path, what: str) -> str | None:
    """Why nothing is seen at a path; None when something is there."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        return f"there is no {what} {path} on this machine"
    except OSError as e:  # a name that is too long, a folder that may not be read
        return f"{_shown(path)} can't be looked at: {e.strerror}"
    return None


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
