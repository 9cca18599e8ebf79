"""Where the base model lies on this machine, what it is called, and whether its files are whole."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Unpack

from attrs import evolve, frozen

from common.storage import local_path
from trainyard.trainer.checkpoints import read_json
from trainyard.trainer.failures import ModelError
from trainyard.trainer.run import Run
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.how import How, how_of
from trainyard.trainer.sources.hub import Place
from trainyard.trainer.sources.model import model_folder
from trainyard.trainer.tensors import damage, tensors_of

ADAPTER, CONFIG = "adapter_config.json", "config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_NAME, _URL = "base_model.model_name", "base_model.weights_url"


@frozen
class Source:
    """A base model in `folder`, and the adapter on it that is trained on, where there is one."""

    #: What loads it again: a hub's id, a path or an address; it goes into the adapter's configuration and the card.
    name: str
    folder: Path
    revision: str | None = None
    #: The folder of the adapter, and how the document calls it.
    adapter: Path | None = None
    asked: str | None = None

    @property
    def where(self) -> str:
        """For messages."""
        name = f"{self.asked}, whose base is {self.name}" if self.asked else self.name
        return f"{_NAME}: {name}" + (f" (revision {self.revision})" if self.revision else "")

    @property
    def of_hub(self) -> bool:
        """Whether `name` is a hub's id, which others can load too."""
        return self.revision is not None

    @property
    def tokenizer_folder(self) -> Path | None:
        """Where its tokenizer lies: with the adapter, else with the base; None where there is none."""
        folders = (self.adapter, self.folder)
        return next((f for f in folders if f is not None and _has_tokenizer(f)), None)


def find(
    request: Mapping[str, Any],
    secrets: Secrets,
    *,
    into: Path,
    job_id: str = "",
    **how: Unpack[How],
) -> Source:
    """The model of the document, downloaded where it is not here; of method `adapter` with the base that it names.

    `into` is a folder of the job's own. Raises `ModelError` when it is not what the method needs, and what
    `model_folder` raises.
    """

    def fetched(request: Mapping[str, Any], secrets: Secrets, into: Path) -> Path:
        return model_folder(request, secrets, into=into, job_id=job_id, **how)

    method = (request.get("customization") or {}).get("method", "lora")
    folder = fetched(request, secrets, into)
    source = named(request["base_model"], folder)
    if method == "adapter":
        return _with_base(request, secrets, source, lambda asked, known: fetched(asked, known, into / "base"))
    _check_model(source, weights=method != "scratch")
    return source


def find_for(run: Run) -> Source:
    """As `find`, for a run."""
    spec, into = run.spec, run.claim.folder.path / "model"
    return find(spec.request, run.secrets, into=into, job_id=spec.job_id, **how_of(run))


def remote(request: Mapping[str, Any]) -> bool:
    """Whether the model may have to be fetched; an adapter's base is only known when the adapter is here."""
    base = request["base_model"]
    path = local_path(str(base["model_name"]))
    return path is None or not (path.is_absolute() or path.is_dir()) or bool(base.get("weights_url"))


def check_files(folder: Path, where: str) -> None:
    """Raises `ModelError` naming a file of weights that is missing, cut short or something else."""
    index = read_json(folder / "model.safetensors.index.json")
    for name in sorted(set((index or {}).get("weight_map", {}).values())):
        if not (folder / str(name)).is_file():
            raise ModelError(f"{where}: {folder / str(name)} is missing, which model.safetensors.index.json names")
    for path in sorted(folder.glob("*.safetensors")):
        problem = damage(path)
        if problem:
            raise ModelError(f"{where}: {path} {problem}")


def shapes(folder: Path, pattern: str = "*.safetensors") -> dict[str, tuple[int, ...]]:
    """The tensors of whole .safetensors files and their shapes, by their headers alone."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob(pattern)):
        found |= {name: tensor.shape for name, tensor in tensors_of(path).items()}
    return found


def named(base: Mapping[str, Any], folder: Path) -> Source:
    """The model in `folder` under the name that loads it again: a hub's id with its revision, a path, or an address."""
    name = str(base["model_name"])
    path = local_path(name)
    if path is not None and path.is_dir():
        return Source(str(path), folder)
    revision = str(base.get("revision") or "main")
    if name.startswith("hf://") and (place := Place.of(name)) is not None:
        return Source(place.repository, folder, place.revision or revision)
    return Source(name, folder, revision if path is not None and not path.is_absolute() else None)


def _with_base(
    request: Mapping[str, Any], secrets: Secrets, source: Source, fetched: Callable[[Mapping[str, Any], Secrets], Path]
) -> Source:
    """The base that an adapter names, from where it says: a path (also beside the adapter), or a hub's id."""
    found = read_json(source.folder / ADAPTER)
    if found is None:
        kind = "a model" if (source.folder / CONFIG).exists() else "nothing of the kind"
        raise ModelError(f"{source.where}: method 'adapter' goes on with an adapter ({ADAPTER}), it holds {kind}")
    name = found.get("base_model_name_or_path")
    if not name or not isinstance(name, str):
        raise ModelError(f"{source.where}: {source.folder / ADAPTER} names no base model (base_model_name_or_path)")
    beside = source.folder / name
    base = {"model_name": str(beside.resolve()) if beside.is_dir() else name, "revision": found.get("revision")}
    kept = evolve(secrets, values={k: v for k, v in secrets.values.items() if k not in (_NAME, _URL)})
    asked = {**request, "base_model": {**request["base_model"], **base, "weights_url": None}}
    try:
        folder = fetched(asked, kept)
    except ModelError as e:
        raise ModelError(f"{source.where}: its base {name!r} (from {ADAPTER}) can't be had: {e}") from e
    whole = evolve(named(base, folder), adapter=source.folder, asked=source.name)
    _check_model(whole, weights=True)
    check_files(source.folder, source.where)
    return whole


def _check_model(source: Source, weights: bool) -> None:
    folder = source.folder
    if not folder.is_dir():
        raise ModelError(f"{source.where}: there is no such folder")
    if (folder / CONFIG).exists():
        if weights and not any(path for pattern in _WEIGHTS for path in folder.glob(pattern)):
            raise ModelError(f"{source.where}: {folder} holds no weights (*.safetensors); method: scratch needs none")
        if weights:
            check_files(folder, source.where)
        return
    if (folder / ADAPTER).exists():
        raise ModelError(f"{source.where}: it holds an adapter, not a model; method: adapter goes on training it")
    raise ModelError(f"{source.where}: it holds no model ({CONFIG} is missing)")


def _has_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
    return any((folder / name).is_file() for name in names)
