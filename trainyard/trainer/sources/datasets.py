"""The data sets of a document, each as a local path, or as the hub id that the library `datasets` loads by itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from attrs import frozen

from common.access import Auth
from common.storage import scheme
from schemas.uri import mask_urls
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.how import How
from trainyard.trainer.sources.hub import Place


@frozen(kw_only=True)
class Fetched:
    """One data set: `path` is a file or folder, else `hub` its id."""

    #: The field, as `datasets[0]`.
    at: str
    #: The source for messages, without its secrets.
    shown: str
    path: Path | None
    hub: str | None
    token: str | None


def fetch_datasets(
    request: Mapping[str, Any], secrets: Secrets, *, job_id: str = "", **how: Unpack[How]
) -> list[Fetched]:
    """Every data set of the document, in order. Raises `DataError`, `SourceRefused`, `ConfigError`, `DiskFull`."""
    found = []
    for n, dataset in enumerate(request.get("datasets") or ()):
        at = f"datasets[{n}]"
        source = secrets.get(f"{at}.source") or str(dataset["source"])
        auth = Auth.of(dataset.get("auth"), secrets.values, f"{at}.auth", job_id)
        token = auth.token or secrets.get("base_model.huggingface_token")
        hub = _hub_id(source) if dataset["format"] == "hf" else None
        path = None
        if hub is None:
            if scheme(source) == "hf":
                auth = Auth.of({"token": token}, {}, f"{at}.auth")
            path = fetch(source, auth, at=f"{at}.source", **how)
        found.append(Fetched(at=at, shown=mask_urls(source), path=path, hub=hub, token=token))
    return found


def remote(request: Mapping[str, Any]) -> bool:
    """Whether anything of the data is to be downloaded."""
    return any(scheme(str(dataset["source"])) != "file" for dataset in request.get("datasets") or ())


def _hub_id(source: str) -> str | None:
    """The id of a whole data set of the hub; None for a folder of this machine, and for a part of a data set."""
    if source.startswith("hf://"):
        place = Place.of(source)
        whole = place is not None and place.kind == "dataset" and not place.path and place.revision is None
        return place.repository if place is not None and whole else None
    return source if scheme(source) == "file" and not source.startswith(("/", "file://", "./", "../", "~")) else None
