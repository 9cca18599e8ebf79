"""A posted document of a diffusion job: known as one, and with every place of its options absolute."""

import os.path
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from schemas.diffusion.contents import FILES, put_in
from schemas.diffusion.dataloader import read_entries
from schemas.diffusion.definitions import definitions
from schemas.diffusion.elsewhere import differing, put_in_fields, with_places
from schemas.diffusion.files import absolute, entries_at
from schemas.diffusion.pipelines import INDEX
from schemas.diffusion.request import PREFIX
from schemas.diffusion.spelling import UNSET, is_json, json_in, undashed
from schemas.values import FieldError

ENGINE: Final = "diffusion"
_CONFIG: Final = "data_backend_config"
_TELLING: Final = ("model_family", _CONFIG)
_BEGINNINGS: Final = ("/", "./", "../", "~/")
#: Options that may be a hub id as well as a path.
_HUB: Final = "pretrained_"


@frozen
class Filled:
    """A document with what was in its files, and what was wrong with those."""

    document: Mapping[str, Any]
    errors: tuple[FieldError, ...] = ()


def prepared(
    document: Mapping[str, Any], cwd: Path, *, exists: Callable[[str], bool] = lambda _path: False
) -> Mapping[str, Any]:
    """The document itself where another engine will run it; else with its engine named and its places absolute.

    A name with two dashes is the name without, and a dataloader or adapter that is given as text is what the text says.
    Of what `artifacts` and `resources` leave open, `output_dir`, `logging_dir`, `accelerate_visible_devices` are taken.
    """
    if not is_of_pictures(document, cwd, exists):
        return document
    given = document.get(PREFIX)
    extra = with_places(_absolute(undashed(given), cwd, exists), cwd) if isinstance(given, dict) else {}
    return {**put_in_fields(document, extra), PREFIX: {**extra, "engine": ENGINE}}


def filled(document: Mapping[str, Any], *, masked: bool = False) -> Filled:
    """A prepared document as it is read: with what is in the files that it names, each read once.

    Where a dataloader says what is trained on, `datasets` may be left out, and are its folders. `masked`: the document
    is one of our own, whose secrets are masks.
    """
    given = document.get(PREFIX)
    if not isinstance(given, dict) or given.get("engine") != ENGINE:
        return Filled(document)
    extra, errors = put_in(given, PREFIX)
    errors += [FieldError(f"{PREFIX}.{name}", message) for name, message in differing(document, given)]
    found = {**document, PREFIX: extra}
    config = extra.get(_CONFIG)
    is_set = config is not None and not (isinstance(config, str) and config in UNSET)
    if is_set and not document.get("datasets"):
        found["datasets"] = [{"source": place, "format": "imagefolder"} for place in _folders(config, masked)]
    return Filled(found, tuple(errors))


def is_of_pictures(document: Mapping[str, Any], cwd: Path, exists: Callable[[str], bool]) -> bool:
    """Whether a document is for the diffusion engine: it says so, or has what only that engine knows."""
    given = document.get(PREFIX)
    extra = undashed(given) if isinstance(given, dict) else {}
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
    return bool(place) and "://" not in place and exists(os.path.join(absolute(place, cwd), INDEX))  # noqa: PTH118


def _absolute(extra: dict[str, Any], cwd: Path, exists: Callable[[str], bool]) -> dict[str, Any]:
    found = dict(extra)
    for definition in definitions():
        text = found.get(definition.name)
        if not isinstance(text, str) or not definition.path or definition.said_by:
            continue
        if text.strip() in UNSET:
            continue
        if is_json(text):  # what would be in the file
            found[definition.name] = json_in(text) if definition.name in FILES else text
            continue
        may_be_hub = definition.name.startswith(_HUB) and not text.startswith(_BEGINNINGS)
        if not may_be_hub or exists(absolute(text, cwd)):
            found[definition.name] = absolute(text, cwd)
    if isinstance(config := found.get(_CONFIG), list):
        found[_CONFIG] = entries_at(config, cwd)
    return found


def _folders(config: object, masked: bool) -> list[str]:
    """The folders of a dataloader's pictures; some place where there are none, which is told elsewhere."""
    entries = read_entries(config, masked=masked).value or ()
    folders = [entry.instance_data_dir for entry in entries if entry.dataset_type == "image"]
    return list(dict.fromkeys(filter(None, folders))) or ["/"]
