"""A posted document of a diffusion job: known as one, and with every place of its options absolute."""

import os.path
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from schemas.diffusion.definitions import definitions
from schemas.diffusion.files import FileProblem, absolute, entries_at, read_json
from schemas.diffusion.pipelines import INDEX
from schemas.diffusion.request import PREFIX, is_option
from schemas.diffusion.spelling import undashed

ENGINE: Final = "diffusion"
_TELLING: Final = ("model_family", "data_backend_config")
_BEGINNINGS: Final = ("/", "./", "../", "~/")
#: Options that may be a hub id as well as a path.
_HUB: Final = "pretrained_"


def prepared(
    document: Mapping[str, Any], cwd: Path, *, exists: Callable[[str], bool] = lambda _path: False
) -> Mapping[str, Any]:
    """The document itself where another engine will run it; else with its engine named and its places absolute.

    A name with two dashes is the name without. Where a dataloader says what is trained on, `datasets` may be left out.
    """
    if not is_of_pictures(document, exists):
        return document
    given = document.get(PREFIX)
    extra = _absolute(_plain(given), cwd, exists) if isinstance(given, dict) else {}
    found = {**document, PREFIX: {**extra, "engine": ENGINE}}
    if not document.get("datasets") and (config := extra.get("data_backend_config")):
        found["datasets"] = [{"source": place, "format": "imagefolder"} for place in _folders(config, cwd)]
    return found


def is_of_pictures(document: Mapping[str, Any], exists: Callable[[str], bool] = lambda _path: False) -> bool:
    """Whether a document is for the diffusion engine: it says so, or has what only that engine knows."""
    given = document.get(PREFIX)
    extra = _plain(given) if isinstance(given, dict) else {}
    if extra.get("engine") is not None or extra.get("command") is not None:
        return extra.get("engine") == ENGINE
    if any(extra.get(name) for name in _TELLING):
        return True
    datasets = document.get("datasets")
    formats = [one.get("format") for one in datasets if isinstance(one, dict)] if isinstance(datasets, list) else []
    if "imagefolder" in formats:
        return True
    model = document.get("base_model")
    name = model.get("model_name") if isinstance(model, dict) else None
    place = name.removeprefix("file://") if isinstance(name, str) else ""
    return place.startswith("/") and exists(os.path.join(place, INDEX))  # noqa: PTH118


def _plain(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Options without their dashes; other keys as they are."""
    return undashed({key: value for key, value in extra.items() if not key.startswith("--") or is_option(key)})


def _absolute(extra: dict[str, Any], cwd: Path, exists: Callable[[str], bool]) -> dict[str, Any]:
    found = dict(extra)
    for definition in definitions():
        text = found.get(definition.name)
        if not isinstance(text, str) or not definition.path or definition.said_by:
            continue
        if text.lstrip()[:1] in ("", "{", "["):  # what would be in the file
            continue
        may_be_hub = definition.name.startswith(_HUB) and not text.startswith(_BEGINNINGS)
        if not may_be_hub or exists(absolute(text, cwd)):
            found[definition.name] = absolute(text, cwd)
    if isinstance(config := found.get("data_backend_config"), list):
        found["data_backend_config"] = entries_at(config, cwd)
    return found


def _folders(config: object, cwd: Path) -> list[str]:
    """The folders of a dataloader's pictures; its own place where it can't be read, which is told elsewhere."""
    entries = config
    if isinstance(config, str):
        try:
            entries = entries_at(read_json(Path(config)), Path(config).parent)
        except FileProblem:
            return [config]
    rows = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    wanted = [row for row in rows if row.get("dataset_type") in (None, "image") and not row.get("disabled")]
    folders = [row["instance_data_dir"] for row in wanted if isinstance(row.get("instance_data_dir"), str)]
    return list(dict.fromkeys(folders)) or [str(cwd)]
