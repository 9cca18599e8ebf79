"""Models and data sets of the Hugging Face hub, by its own client and into its own cache (`HF_HOME`)."""

from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from attrs import frozen

from trainyard.trainer.failures import ModelError, RunEnded, explained, from_source
from trainyard.trainer.sources.watched import Abandoned, watched

#: Of a model what transformers and peft read. Weights are safetensors; pickles only where there is nothing else.
_MODEL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.safetensors")
_PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "pytorch_model.bin.index.json")
#: The same weights once more, in the publisher's own layout.
_TWICE = ("consolidated*.safetensors",)

Check = Callable[[], None]
Say = Callable[[str], None]


@frozen(kw_only=True)
class Place:
    """A repository of the hub, and what lies in it."""

    repository: str
    path: str = ""
    kind: str = "model"
    revision: str | None = None

    @classmethod
    def of(cls, uri: str) -> "Place | None":
        """What `hf://[datasets/]owner/name[@revision][/path]` names; None for a URI that names nothing."""
        parts = uri.removeprefix("hf://").strip("/").split("/")
        kind = {"datasets": "dataset", "models": "model"}.get(parts[0])
        if kind is not None:
            parts = parts[1:]
        if len(parts) < 2 or not all(parts):
            return None
        name, _, revision = parts[1].partition("@")
        return cls(
            repository=f"{parts[0]}/{name}",
            path="/".join(parts[2:]),
            kind=kind or "model",
            revision=revision or None,
        )


def fetch_place(place: Place, token: str | None, at: str, missing: type[RunEnded], check: Check, say: Say) -> Path:
    """A file, or a folder, of a repository. Raises `missing` or `SourceRefused`."""
    where = f"{at}: hf://{'datasets/' if place.kind == 'dataset' else ''}{place.repository}/{place.path}"

    def work() -> Path:
        from huggingface_hub import hf_hub_download, snapshot_download
        from huggingface_hub.errors import EntryNotFoundError

        common: dict[str, Any] = {"repo_type": place.kind, "revision": place.revision, "token": token}
        if place.path:
            try:
                return Path(hf_hub_download(place.repository, place.path, **common))
            except EntryNotFoundError:  # perhaps a folder
                found = Path(snapshot_download(place.repository, allow_patterns=[f"{place.path}/*"], **common))
                if (found / place.path).is_dir():
                    return found / place.path
                raise
        return Path(snapshot_download(place.repository, **common))

    return _asked(work, where, missing, check, say)


def fetch_model(name: str, revision: str, token: str | None, weights: bool, at: str, check: Check, say: Say) -> Path:
    """The folder of a model as the hub has it, with its weights or without. Raises `ModelError` or `SourceRefused`."""

    def work() -> Path:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, revision=revision, token=token, **_wanted(name, revision, token, weights)))

    return _asked(work, f"{at}: {name} (revision {revision})", ModelError, check, say)


def _wanted(name: str, revision: str, token: str | None, weights: bool) -> dict[str, Any]:
    """Which files: exact names where the hub tells them, patterns where it can't be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        told = HfApi().list_repo_files(name, revision=revision, token=token)
    except (OfflineModeIsEnabled, LocalEntryNotFoundError, ConnectionError):
        return {"allow_patterns": list(_MODEL_FILES), "ignore_patterns": ["*/*"]}
    return {"allow_patterns": chosen(told, weights)}


def chosen(names: list[str], weights: bool) -> list[str]:
    """Of a model's files those that are needed."""
    top = [name for name in names if "/" not in name]
    safe = [n for n in top if _any(n, _MODEL_FILES) and not _any(n, _PICKLES)]
    if any(n.endswith(".safetensors") and not _any(n, _TWICE) for n in safe):
        safe = [n for n in safe if not _any(n, _TWICE)]
    if not weights:
        return [n for n in safe if not n.endswith((".safetensors", ".safetensors.index.json"))]
    return safe if any(n.endswith(".safetensors") for n in safe) else safe + [n for n in top if _any(n, _PICKLES)]


def _any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _asked(work: Callable[[], Path], where: str, missing: type[RunEnded], check: Check, say: Say) -> Path:
    try:
        return watched(lambda _: work(), where, check, say)
    except (RunEnded, Abandoned):
        raise
    except Exception as e:
        ended = explained(e) or from_source(e, where)
        raise (missing(str(ended)) if isinstance(ended, ModelError) else ended) from e
