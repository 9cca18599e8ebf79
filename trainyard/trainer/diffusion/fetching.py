"""The places of a model's parts: here, in a hub, in a bucket or behind an address; fetched where they are not here."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from common.storage import local_path
from schemas.uri import mask_urls
from trainyard.trainer.failures import ConfigError, ModelError
from trainyard.trainer.run import Run
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources import archives
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.how import How, how_of
from trainyard.trainer.sources.hub import Place, fetch_folders, fetch_place
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.model import auth_of, model_folder

MODEL, URL = "base_model.model_name", "base_model.weights_url"


@frozen(kw_only=True)
class Asking:
    """How a job gets its model, or somebody who looks at a job before it is one."""

    request: Mapping[str, Any]
    secrets: Secrets
    how: How
    #: A folder of its own.
    into: Path
    job_id: str = ""
    #: Called before the first download.
    begun: Callable[[], None] = lambda: None
    #: Whether files of weights are wanted too; else what comes from a hub comes without, and nothing from elsewhere.
    weights: bool = True

    @classmethod
    def of(cls, run: Run) -> "Asking":
        """A run asks."""
        return cls(
            request=run.spec.request,
            secrets=run.secrets,
            how=how_of(run),
            into=run.claim.folder.path / "model",
            job_id=run.spec.job_id,
            begun=lambda: run.report.phase("downloading"),
        )

    @property
    def url(self) -> str | None:
        """The document's `weights_url`."""
        base = self.request.get("base_model") or {}
        found: str | None = self.secrets.get(URL) or base.get("weights_url")
        return found


class NotHere(Exception):
    """A model that is not on this machine, and of which no part can be looked at alone."""


def fetched(
    asking: Asking, variant: str | None, name: str, revision: str, option: str, only: Sequence[str]
) -> tuple[Path, bool]:
    """Where a name leads on this machine, and whether it is a hub's; `only` as for `fetch_folders`.

    Raises `ModelError`, `SourceRefused`, `ConfigError`, `DiskFull`, `NotHere`, and what `check` raises.
    """
    at = option if "." in option else f"extra_parameters.{option}"
    path = local_path(name) or Path()
    if local_path(name) is not None and (path.exists() or path.is_absolute() or name.startswith("file://")):
        if not path.exists():
            raise ModelError(f"{at}: {name}: there is no such file or folder")
        return path.absolute(), False
    asking.begun()
    if local_path(name) is not None or name.startswith("hf://"):
        return _of_hub(asking, variant, name, revision, at, only), True
    if not asking.weights:
        raise NotHere(mask_urls(name))
    auth = auth_of(asking.request, asking.secrets, name, asking.job_id)
    found = fetch(name, auth, at=at, missing=ModelError, plain=option == URL, **asking.how)
    if found.is_dir() or archives.kind_of(found, at) == "safetensors":
        return found, False
    base = {**asking.request["base_model"], "model_name": name, "weights_url": None}
    secrets = evolve(asking.secrets, values={k: v for k, v in asking.secrets.values.items() if k not in (MODEL, URL)})
    request = {**asking.request, "base_model": base}
    return model_folder(request, secrets, into=asking.into, job_id=asking.job_id, **asking.how), False


def _of_hub(asking: Asking, variant: str | None, name: str, revision: str, at: str, only: Sequence[str]) -> Path:
    token = asking.secrets.get("base_model.huggingface_token", "base_model.auth_token")
    place = Place.of(f"hf://{name.removeprefix('hf://')}")
    if place is None or place.kind != "model":
        raise ConfigError(f"{at}: {name}: hf://owner/name[@revision][/file] would be right")
    place = evolve(place, revision=place.revision or revision or None)
    check, say, limits = asking.how["check"], asking.how["say"], asking.how.get("limits", Limits())
    if place.path:
        if not asking.weights:
            raise NotHere(name)
        return fetch_place(place, token, at, ModelError, check, say)
    more: dict[str, Any] = {"weights": asking.weights, "patient": limits.patient}
    return fetch_folders(place, token, at, check, say, variant=variant, only=only, **more)
