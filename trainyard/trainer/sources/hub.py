"""Models and data sets of the Hugging Face hub, by its own client and into its own cache (`HF_HOME`)."""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from attrs import frozen

from trainyard.trainer.failures import UNREACHED, ModelError, RunEnded, chain, explained, from_source
from trainyard.trainer.sources.watched import Abandoned, Progress, watched

#: Of a model what transformers and peft read. Weights are safetensors; pickles only where there is nothing else.
_MODEL_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.safetensors")
_PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "pytorch_model.bin.index.json")
#: Of a folder of diffusers' weights, the kinds of files; the first that is there is read.
_TENSORS = (".safetensors", ".bin")
#: The same weights once more, in the publisher's own layout.
_TWICE = ("consolidated*.safetensors",)
#: For an answer; and before the hub is asked again.
_SECONDS = 5.0
_WAITS = (1.0, 2.0, 4.0, 8.0)
_AGAIN = (429, 500, 502, 503, 504)

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

    return _asked(lambda _: work(), where, missing, check, say)


def fetch_model(
    name: str,
    revision: str,
    token: str | None,
    weights: bool,
    at: str,
    check: Check,
    say: Say,
    patient: bool = True,
) -> Path:
    """The folder of a model as the hub has it, with its weights or without; as the cache has it without a hub.

    `patient`: ask several times where the hub can't be reached. Raises `ModelError` or `SourceRefused`.
    """

    def work(progress: Progress) -> Path:
        from huggingface_hub import snapshot_download

        common: dict[str, Any] = {"revision": revision, "token": token}
        told = _told(name, common, _WAITS if patient else (), progress)
        if told is None:
            return Path(snapshot_download(name, local_files_only=True, **_patterns(weights), **common))
        return Path(snapshot_download(name, allow_patterns=chosen(told, weights), **common))

    return _asked(work, f"{at}: {name} (revision {revision})", ModelError, check, say)


def fetch_folders(
    place: Place,
    token: str | None,
    at: str,
    check: Check,
    say: Say,
    *,
    variant: str | None = None,
    only: Sequence[str] = (),
    weights: bool = True,
    patient: bool = True,
) -> Path:
    """A model that is made of several, a folder each, as diffusers lays it out; as the cache has it without a hub.

    `variant` and `weights` as for `chosen_folders`; `only`: these folders, and what lies beside them where one is not
    there; `patient` as for `fetch_model`. Raises `ModelError` or `SourceRefused`.
    """
    name, revision = place.repository, place.revision or "main"

    def work(progress: Progress) -> Path:
        from huggingface_hub import snapshot_download

        common: dict[str, Any] = {"revision": revision, "token": token}
        told = _told(name, common, _WAITS if patient else (), progress)
        if told is None:  # what is whole of it, the one who reads it sees
            marks = [f"{folder}/*.json" for folder in only] or ["model_index.json"]
            return Path(snapshot_download(name, local_files_only=True, allow_patterns=marks, **common))
        return Path(snapshot_download(name, allow_patterns=chosen_folders(told, variant, only, weights), **common))

    return _asked(work, f"{at}: {name} (revision {revision})", ModelError, check, say)


def chosen_folders(names: Sequence[str], variant: str | None, only: Sequence[str], weights: bool = True) -> list[str]:
    """Of a model's files in folders those that are needed: of a folder's weights one kind, in the variant it has.

    Without `weights`, and for tokenizers, what is no weights alone.
    """
    folders = {name.partition("/")[0] for name in names if "/" in name}
    wanted = folders & set(only) if only else folders
    found = ["model_index.json"] if "model_index.json" in names else []
    for folder in sorted(wanted):
        found += _of_folder([name for name in names if name.startswith(f"{folder}/")], variant)
    if set(only) - folders:
        found += _of_folder([name for name in names if "/" not in name], variant)
    plain = not weights or (only and all(part.startswith("tokenizer") for part in only))
    return sorted({name for name in found if not (plain and name.endswith(_TENSORS))})


def _of_folder(names: Sequence[str], variant: str | None) -> list[str]:
    plain = [name for name in names if not name.endswith(_TENSORS) and _any(name, _MODEL_FILES)]
    kind = next((end for end in _TENSORS if any(name.endswith(end) for name in names)), None)
    tensors = [name for name in names if kind is not None and name.endswith(kind)]
    ours = [name for name in tensors if variant is not None and of_variant(name, variant)]
    # Where the plain file is read, `diffusion_pytorch_model.fp16.safetensors` beside it is of no use.
    return plain + (ours or [name for name in tensors if name.rpartition("/")[2].count(".") == 1] or tensors)


def of_variant(name: str, variant: str) -> bool:
    """Whether a file of weights is of a variant, as `x.fp16.safetensors` and `x.fp16-00001-of-2.safetensors`."""
    return re.search(rf"\.{re.escape(variant)}[.-]", name) is not None


def _told(name: str, common: Mapping[str, Any], waits: Sequence[float], progress: Progress) -> list[str] | None:
    """The names of a model's files; None where the hub can't be asked. One request, unlike a listing of its tree."""
    from huggingface_hub import HfApi

    for wait in (*waits, None):
        try:
            found = HfApi().model_info(name, timeout=_SECONDS, **common)
            return [file.rfilename for file in found.siblings or ()]
        except Exception as e:
            names = {type(cause).__name__ for cause in chain(e)}
            if "OfflineModeIsEnabled" in names:
                return None
            if not names & UNREACHED and _status(e) not in _AGAIN:
                raise
            if wait is None:
                if names & UNREACHED:
                    return None
                raise
        progress.wait(wait)
    return None


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _patterns(weights: bool) -> dict[str, Any]:
    """The same as `chosen`, where the names are not known."""
    without = [] if weights else ["*.safetensors", "*.safetensors.index.json"]
    return {"allow_patterns": [*_MODEL_FILES], "ignore_patterns": ["*/*", *_TWICE, *without]}


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


def _asked(work: Callable[[Progress], Path], where: str, missing: type[RunEnded], check: Check, say: Say) -> Path:
    try:
        return watched(work, where, check, say)
    except (RunEnded, Abandoned):
        raise
    except Exception as e:
        ended = explained(e) or from_source(e, where)
        raise (missing(str(ended)) if isinstance(ended, ModelError) else ended) from e
