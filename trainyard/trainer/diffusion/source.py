"""Where the image model of a job lies on this machine: fetched where it is not here."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve

from common.access import Auth
from common.objects import SCHEMES
from common.storage import local_path, scheme
from schemas.diffusion import Options
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ConfigError, ModelError
from trainyard.trainer.run import Run
from trainyard.trainer.sources import archives
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.hub import Place, fetch_folders, fetch_place
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.model import model_folder

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


def find(run: Run, options: Options, family: Family) -> Weights:
    """The model of the options, with the parts that come from elsewhere.

    Raises `ModelError`, `SourceRefused`, `ConfigError`, `DiskFull`, and what the run's control raises.
    """
    return gathered(options, family, partial(_fetched, run, options.variant))


def gathered(options: Options, family: Family, fetch: Fetch) -> Weights:
    """The same, with every place by `fetch`. Raises `ModelError`, and what that raises."""
    flavour = options.model_flavour or family.usual_flavour
    if flavour not in family.flavours:
        raise ConfigError(
            f"extra_parameters.model_flavour: {flavour!r} is not one of {', '.join(family.flavours)} ({family.name})"
        )
    name = options.pretrained_model_name_or_path or family.flavours[flavour]
    revision = options.revision or _USUAL_REVISION
    root, hub = fetch(name, revision, _NAME, ())
    parts: dict[str, Path] = {}
    for option, wanted in family.elsewhere.items():
        if given := getattr(options, option):
            inside = getattr(options, _SUBFOLDERS[option]) if option in _SUBFOLDERS else None
            folders = (inside, *wanted[1:]) if inside else tuple(wanted)
            place, _ = fetch(given, revision, option, folders)
            parts |= _parts(place, wanted, folders, option)
    beside = None
    if root.is_file() and not _has_tokenizers(root.parent, family):
        wanted = [part for part in (*family.parts, "scheduler") if part.startswith(("tokenizer", "scheduler"))]
        beside, _ = fetch(family.flavours[flavour], _USUAL_REVISION, "model_flavour", wanted)
    return Weights(
        name=name,
        root=root,
        parts=parts,
        beside=beside,
        revision=revision if hub else None,
        variant=options.variant,
    )


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


def _has_tokenizers(folder: Path, family: Family) -> bool:
    return all((folder / part).is_dir() for part in family.parts if part.startswith("tokenizer"))


def _fetched(
    run: Run, variant: str | None, name: str, revision: str, option: str, only: Sequence[str]
) -> tuple[Path, bool]:
    """Where it lies, and whether it is a hub's."""
    at = f"extra_parameters.{option}"
    path = local_path(name) or Path()
    if local_path(name) is not None and (path.exists() or path.is_absolute() or name.startswith("file://")):
        if not path.exists():
            raise ModelError(f"{at}: {name}: there is no such file or folder")
        return path.absolute(), False
    check, say = run.control.check, run.report.log
    run.report.phase("downloading")
    token = run.secrets.get("base_model.huggingface_token", "base_model.auth_token")
    if local_path(name) is not None or name.startswith("hf://"):
        place = Place.of(f"hf://{name.removeprefix('hf://')}")
        if place is None or place.kind != "model":
            raise ConfigError(f"{at}: {name}: hf://owner/name[@revision][/file] would be right")
        place = evolve(place, revision=place.revision or revision)
        if place.path:
            return fetch_place(place, token, at, ModelError, check, say), True
        return fetch_folders(place, token, at, check, say, variant=variant, only=only), True
    limits = Limits.of(run.spec.options)
    how: dict[str, Any] = {"cache": run.spec.cache, "check": check, "say": say, "limits": limits}
    found = fetch(name, _auth(run, name), at=at, missing=ModelError, **how)
    if found.is_dir() or archives.kind_of(found, at) == "safetensors":
        return found, False
    base = {**run.spec.request["base_model"], "model_name": name, "weights_url": None}
    into, job = run.claim.folder.path / "model", run.spec.job_id
    return model_folder({**run.spec.request, "base_model": base}, run.secrets, into=into, job_id=job, **how), False


def _auth(run: Run, uri: str) -> Auth:
    if scheme(uri) in SCHEMES:
        part = run.spec.request.get("artifacts", {}).get("auth")
        return Auth.of(part, run.secrets.values, "artifacts.auth", run.spec.job_id)
    return evolve(Auth(at="base_model.auth_token"), token=run.secrets.get("base_model.auth_token"))
