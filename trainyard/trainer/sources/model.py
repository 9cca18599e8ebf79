"""The folder of the base model, from wherever `base_model` says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack
from urllib.parse import urlsplit

from attrs import evolve, frozen

from common.access import Auth
from common.objects import SCHEMES
from common.storage import local_path, scheme
from trainyard.trainer.checkpoints import fresh
from trainyard.trainer.failures import ConfigError, ModelError
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources import archives
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.how import How
from trainyard.trainer.sources.hub import Place, fetch_model
from trainyard.trainer.sources.limits import Limits

_NAME, _WEIGHTS = "base_model.model_name", "base_model.weights_url"
_MARKS = ("config.json", "adapter_config.json")
_HUB = "huggingface.co"


@frozen(kw_only=True)
class _Wanted:
    """How one job gets its model."""

    request: Mapping[str, Any]
    secrets: Secrets
    into: Path
    job_id: str
    how: How

    @property
    def base(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.request["base_model"]
        return found


def model_folder(
    request: Mapping[str, Any],
    secrets: Secrets,
    *,
    into: Path,
    job_id: str = "",
    **how: Unpack[How],
) -> Path:
    """A local folder with configuration, tokenizer and weights, downloaded where they are not here.

    A local folder is given back as it is, whatever it holds; of a hub's model it is the folder in the hub's own cache.
    `weights_url` names a .safetensors file, whose configuration and tokenizer come from `model_name` (linked
    in `into`, a folder of the job's own), or an archive of a whole model. Raises `ModelError`, `SourceRefused`,
    `ConfigError`, `DiskFull`, and what `check` raises.
    """
    wanted = _Wanted(request=request, secrets=secrets, into=into, job_id=job_id, how=how)
    url = secrets.get(_WEIGHTS) or wanted.base.get("weights_url")
    if url is None:
        return _named(wanted, weights=wanted.request.get("customization", {}).get("method") != "scratch")
    return _from_url(wanted, str(url))


def _named(wanted: _Wanted, weights: bool) -> Path:
    """The folder that `model_name` names."""
    name = wanted.secrets.get(_NAME) or str(wanted.base["model_name"])
    path = local_path(name)
    if path is not None:
        if name.startswith("file://") or path.is_absolute() or path.is_dir():
            return path
        return _from_hub(wanted, name, None, weights)
    if name.startswith("hf://"):
        place = Place.of(name)
        if place is None or place.path or place.kind != "model":
            raise ConfigError(f"{_NAME}: {name}: hf://owner/name[@revision] would be right")
        return _from_hub(wanted, place.repository, place.revision, weights)
    found = _fetched(wanted, name, _NAME)
    return found if found.is_dir() else _unpacked(wanted, found, _NAME)


def _from_hub(wanted: _Wanted, name: str, revision: str | None, weights: bool) -> Path:
    token = wanted.secrets.get("base_model.huggingface_token", "base_model.auth_token")
    revision = revision or str(wanted.base.get("revision") or "main")
    patient = wanted.how.get("limits", Limits()).patient
    return fetch_model(name, revision, token, weights, _NAME, wanted.how["check"], wanted.how["say"], patient)


def _from_url(wanted: _Wanted, url: str) -> Path:
    file = _fetched(wanted, url, _WEIGHTS)
    if file.is_dir() or archives.kind_of(file, _WEIGHTS) == "safetensors":
        return _together(wanted, file)
    return _together(wanted, _unpacked(wanted, file, _WEIGHTS))


def _together(wanted: _Wanted, weights: Path) -> Path:
    """Weights beside the configuration and tokenizer of `model_name`; a whole model as it is."""
    if weights.is_dir() and any((weights / mark).exists() for mark in _MARKS):
        return weights
    if weights.is_dir() and not list(weights.glob("*.safetensors")):
        raise ModelError(f"{_WEIGHTS}: there is neither a config.json nor a .safetensors file in it")
    rest = _named(wanted, weights=False)
    fresh(wanted.into)
    archives.link_all(rest, wanted.into, but=_holds_weights)
    if weights.is_dir():
        archives.link_all(weights, wanted.into)
    else:
        adapter = (rest / "adapter_config.json").exists() and not (rest / "config.json").exists()
        archives.link(weights, wanted.into / ("adapter_model.safetensors" if adapter else "model.safetensors"))
    return wanted.into


def _holds_weights(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf"))


def _fetched(wanted: _Wanted, uri: str, at: str) -> Path:
    auth = auth_of(wanted.request, wanted.secrets, uri, wanted.job_id)
    return fetch(uri, auth, at=at, missing=ModelError, plain=at == _WEIGHTS, **wanted.how)


def auth_of(request: Mapping[str, Any], secrets: Secrets, uri: str, job_id: str) -> Auth:
    """Who asks for a part of the model: in an object store as for the results; the hub's token for a hub's host alone.

    Any other host is given the provider's token.
    """
    if scheme(uri) in SCHEMES:
        return Auth.of(request.get("artifacts", {}).get("auth"), secrets.values, "artifacts.auth", job_id)
    host = urlsplit(uri).hostname or ""
    names = ["base_model.auth_token"]
    if host == _HUB or host.endswith("." + _HUB):
        names.insert(0, "base_model.huggingface_token")
    return evolve(Auth(at="base_model.auth_token"), token=secrets.get(*names))


def _unpacked(wanted: _Wanted, file: Path, at: str) -> Path:
    kind = archives.kind_of(file, at)
    if kind == "safetensors":
        raise ModelError(f"{at}: it is a file of weights; give a folder, or an archive of one")
    return archives.unpacked(file, kind, at, **wanted.how)
