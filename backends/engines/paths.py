"""Local models, data sets and folders, looked at by `stat` when a job is submitted."""

import os
import re
from pathlib import Path

from common.storage import local_path, scheme

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)
_HUB_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?", re.ASCII)
_LONGEST_SHOWN = 200
_BEGINNINGS = ("/", "./", "../", "~")
_KINDS = {
    "jsonl": "a JSONL file",
    "nemo": "a JSONL file",
    "csv": "a CSV file",
    "parquet": "a Parquet file",
    "arrow": "an Arrow file",
    "hf": "a folder that save_to_disk wrote",
}


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


def is_hub_dataset(source: str, form: str) -> bool:
    """Whether a source of format `hf` is an id of the hub (`owner/name`, `owner/name@revision`)."""
    return form == "hf" and not source.startswith(_BEGINNINGS) and _HUB_DATASET.fullmatch(source) is not None


def model_problem(name: str, method: str = "lora") -> str | None:
    """Why the base model can't be loaded here; a hub id is looked up by the run alone."""
    path = model_path(name)
    if path is None:
        if _HUB_ID.fullmatch(name):
            return None
        return f"{name!r} is neither a hub id nor a path; a hub id (owner/name) or a local folder (/…) would run"
    if (absent := _absent(path, "folder")) is not None:
        return f"{absent}; give a folder that exists, or a hub id (owner/name)"
    if not path.is_dir():
        return f"{path} is not a folder; give the folder that holds config.json and the weights"
    return _unlike_a_model(path, method)


def _unlike_a_model(path: Path, method: str) -> str | None:
    whole, adapter = (_absent(path / f"{name}.json", "file") is None for name in ("config", "adapter_config"))
    if method == "adapter":
        return (
            None if adapter else f"{path} holds no adapter_config.json; give the folder of an adapter in peft's format"
        )
    if whole:
        return None
    if adapter:
        return f"{path} holds an adapter: method: adapter would go on with it; else give the folder of a whole model"
    return f"{path} holds no config.json; give the folder of a model as save_pretrained writes it"


def dataset_problem(source: str, form: str = "jsonl") -> str | None:
    """Why rows can't be read from a place: a file, or a folder of files."""
    path = place(source)
    if path is None or is_hub_dataset(source, form):
        return None
    what = _KINDS[form]
    if (absent := _absent(path, "file" if form != "hf" else "folder")) is not None:
        return f"{absent}; give {what} that exists"
    if not (path.is_file() or path.is_dir()) or (form == "hf" and not path.is_dir()):
        return (
            f"{path} is neither a file nor a folder; give {what}" if form != "hf" else f"{path} is a file; give {what}"
        )
    if not os.access(path, os.R_OK):
        return f"the service may not read {path}; give it the right to, or another place"
    if path.is_dir():
        return None if any(path.iterdir()) else f"{path} is empty; give {what} with at least one row"
    if path.stat().st_size == 0:
        return f"{path} is empty; give {what} with at least one row"
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
