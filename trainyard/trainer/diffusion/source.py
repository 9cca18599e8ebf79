"""Where the image model of a job lies on this machine: fetched where it is not here."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve

from schemas.diffusion import Options
from schemas.uri import mask_urls
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.fetching import URL, Asking, fetched
from trainyard.trainer.diffusion.sums import Sums
from trainyard.trainer.diffusion.weights import Weights, held
from trainyard.trainer.failures import ConfigError, ModelError, SourceRefused
from trainyard.trainer.run import Run

#: Of a name, its revision, the option that names it and the folders that are wanted of it, all where there is none:
#: where it lies, and whether it is a hub's.
Fetch = Callable[[str, str, str, Sequence[str]], tuple[Path, bool]]

_NAME = "pretrained_model_name_or_path"
#: What says in which folder of it a part lies.
_SUBFOLDERS = {
    "pretrained_transformer_model_name_or_path": "pretrained_transformer_subfolder",
    "pretrained_unet_model_name_or_path": "pretrained_unet_subfolder",
}
_USUAL_REVISION = "main"
_FLAVOUR = "model_flavour"


def find(run: Run, options: Options, family: Family) -> Weights:
    """The model of the options, with the parts that come from elsewhere.

    Raises `ModelError`, `SourceRefused`, `ConfigError`, `DiskFull`, and what the run's control raises.
    """
    asking = Asking.of(run)
    found = gathered(options, family, partial(fetched, asking, options.variant), asking.url)
    return evolve(found, sums=Sums(run.spec.cache / "weights", run.control.check))


def look(asking: Asking, options: Options, family: Family) -> Weights:
    """The same for somebody who wants no weights: of a hub's model its configurations and tokenizers.

    Raises `NotHere` for what is elsewhere in one file, and what `find` raises.
    """
    of_hubs = []

    def seen(*asked: Any) -> tuple[Path, bool]:
        place, of_hub = fetched(evolve(asking, weights=False), options.variant, *asked)
        of_hubs.append(of_hub)
        return place, of_hub

    found = gathered(options, family, seen, asking.url)
    return evolve(found, whole=not any(of_hubs))


def gathered(options: Options, family: Family, fetch: Fetch, url: str | None = None) -> Weights:
    """The same, with every place by `fetch`. Raises `ModelError`, and what that raises.

    What a single file lacks, what no option names and what does not lie beside it is the flavour's own. `url` names the
    weights themselves: then it is that of the model which the options name.
    """
    flavour = options.model_flavour or family.usual_flavour
    if flavour not in family.flavours:
        raise ConfigError(
            f"extra_parameters.model_flavour: {flavour!r} is not one of {', '.join(family.flavours)} ({family.name})"
        )
    name = options.pretrained_model_name_or_path or family.flavours[flavour]
    revision = options.revision or _USUAL_REVISION
    root, hub = fetch(name, revision, _NAME, ()) if url is None else fetch(url, "", URL, ())
    parts: dict[str, Path] = {}
    for option, wanted in family.elsewhere.items():
        if given := getattr(options, option):
            inside = getattr(options, _SUBFOLDERS[option]) if option in _SUBFOLDERS else None
            folders = (inside, *wanted[1:]) if inside else tuple(wanted)
            place, _ = fetch(given, revision, option, folders)
            parts |= _parts(place, wanted, folders, option)
    lacking = _lacking(root, parts, family) if root.is_file() else []
    everywhere = family.everywhere if url is None else {}
    for part in [part for part in lacking if part in everywhere]:
        place, _ = fetch(everywhere[part], _USUAL_REVISION, _FLAVOUR, (part,))
        parts |= _parts(place, (part,), (part,), _FLAVOUR)
    beside = None
    if rest := [part for part in lacking if part not in everywhere]:
        others = (family.flavours[flavour], _USUAL_REVISION, _FLAVOUR) if url is None else (name, revision, _NAME)
        beside = _beside(family, others, rest, fetch)
    return Weights(
        name=name if url is None else mask_urls(url),
        root=root,
        parts=parts,
        beside=beside,
        revision=revision if hub else None,
        variant=options.variant,
    )


def _lacking(root: Path, parts: Mapping[str, Path], family: Family) -> list[str]:
    """The parts that are neither in a single file, nor beside it, nor named; what is trained must be in it."""
    there = {*parts, *held(root), family.part}
    return [part for part in family.parts if part not in there and not (root.parent / part).is_dir()]


def _beside(family: Family, others: tuple[str, str, str], parts: Sequence[str], fetch: Fetch) -> Path:
    """Where these parts of another model lie, by its name, revision and option, and its scheduler."""
    try:
        return fetch(*others, (*parts, "scheduler"))[0]
    except (ModelError, SourceRefused) as e:
        options = [name for name, named in family.elsewhere.items() if set(named) & set(parts)]
        more = f"; {', '.join(options)} may name them elsewhere" if options else ""
        raise type(e)(f"{e} (wanted for {', '.join(parts)}, which the single file lacks{more})") from e


def _parts(place: Path, wanted: Sequence[str], folders: Sequence[str], option: str) -> dict[str, Path]:
    """The parts in what was fetched: folders of their names, or the place itself."""
    if place.is_file():
        return {wanted[0]: place}
    found = {}
    for part, folder in zip(wanted, folders, strict=True):
        own = _inside(place, part, folder)
        if own is not None:
            found[part] = own
    if wanted[0] not in found:
        raise ModelError(
            f"extra_parameters.{option}: {place}: there is neither a folder {folders[0]!r} nor a config.json in it"
        )
    return found


def _inside(place: Path, part: str, folder: str) -> Path | None:
    plain = part.removesuffix("_2")
    for name in (folder, part, plain):
        if (place / name).is_dir():
            return place / name
    mark = "tokenizer_config.json" if part.startswith("tokenizer") else "config.json"
    return place if (place / mark).is_file() else None
