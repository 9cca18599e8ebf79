"""Where an image model, its parts and the pictures lie, looked at by `stat` when a job is submitted."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from backends.engines import paths
from backends.engines.machine import Machine
from backends.engines.places import STORAGE, auth_errors, unreadable
from common.storage import scheme
from schemas.diffusion import definitions
from schemas.diffusion.dataloader import PICTURES, Entry
from schemas.diffusion.pipelines import INDEX
from schemas.diffusion.request import CONFIG, PREFIX, Job, options_given
from schemas.train import TrainRequest

Found = Iterator[tuple[str, str]]

_LATER = "is not in this version of engine diffusion"
_FILES = (".safetensors", ".sft")
#: Captions as the hub's `imagefolder` has them.
_TABLES = ("metadata.jsonl", "metadata.csv")
_LOOKED_AT = 200
#: Options whose places need not be there before the run, or are looked at elsewhere.
_APART = (
    *("cache_dir", "pretrained_model_name_or_path", "data_backend_config", "lycoris_config"),
    *("output_dir", "logging_dir", "resume_from_folder"),
)


def pipeline_errors(request: TrainRequest, machine: Machine) -> Found:
    """What is wrong with the base model's place."""
    model, at = request.base_model, "base_model.model_name"
    kind = scheme(model.model_name)
    if model.weights_url is not None:
        yield from unreadable("base_model.weights_url", model.weights_url, machine)
    if kind in ("s3", "gs", "az") and "obstore" in machine.absent:
        yield at, f"{kind}:// needs obstore, which is not installed: {STORAGE}"
    elif kind == "file" and (problem := _model_problem(model.model_name)) is not None:
        yield at, problem


def part_errors(request: TrainRequest, _machine: Machine) -> Found:
    """Files and folders that options name, and that are not there."""
    extra = request.extra_parameters.options
    for definition in definitions():
        name = definition.name
        text = extra.get(name, extra.get(f"--{name}"))
        if not definition.path or name in _APART or not isinstance(text, str) or text[:1] != "/":
            continue
        if not Path(text).exists():
            yield f"{PREFIX}.{name}", f"there is no {text} on this machine"


def data_errors(request: TrainRequest, machine: Machine, job: Job | None) -> Found:
    """What is wrong with where the pictures lie, and with what data sets of images have not.

    Without a job, where something else is wrong, nothing is known of a dataloader.
    """
    given = "data_backend_config" in options_given(request.extra_parameters.options)
    if given:
        yield from _dataset_twice(request, job)
        yield from _entry_errors(job.entries if job is not None else ())
    else:
        yield from _folder_errors(request, machine)


def _folder_errors(request: TrainRequest, machine: Machine) -> Found:
    """The document's own data sets."""
    for n, dataset in enumerate(request.datasets):
        at = f"datasets[{n}]"
        if dataset.format != "imagefolder":
            yield f"{at}.format", f"{dataset.format!r} is data of texts; engine diffusion reads imagefolder"
            continue
        place = paths.place(dataset.source)
        if place is None:
            yield from unreadable(f"{at}.source", dataset.source, machine)
            yield from auth_errors(f"{at}.auth", dataset.auth, [scheme(dataset.source)], machine)
        elif (problem := folder_problem(place)) is not None:
            yield f"{at}.source", problem
        if dataset.weight is not None and (dataset.weight < 1 or dataset.weight % 1):
            yield f"{at}.weight", f"{dataset.weight:g} {_LATER} of pictures; a whole number would run"
        for name in ("split", "streaming", "auth"):
            if getattr(dataset, name) and not (name == "auth" and place is None):
                yield f"{at}.{name}", "is nothing that a folder of pictures has; leave it out"


def _dataset_twice(request: TrainRequest, job: Job | None) -> Found:
    """Data sets beside a dataloader that names others."""
    folders = {entry.instance_data_dir for entry in job.entries} if job is not None else None
    for n, dataset in enumerate(request.datasets):
        place = paths.place(dataset.source)
        if folders is not None and str(place) not in folders:
            why = f"is in no entry of {CONFIG}, which says what is trained on; leave one of the two out"
            yield f"datasets[{n}].source", f"{dataset.source} {why}"


def _entry_errors(entries: tuple[Entry, ...]) -> Found:
    """The folders of a dataloader."""
    for entry in entries:
        if entry.dataset_type in PICTURES and entry.instance_data_dir is not None:
            problem = folder_problem(Path(entry.instance_data_dir))
            yield from [(f"{entry.at}.instance_data_dir", problem)] if problem is not None else []
        for name in ("cache_dir", "cache_dir_vae"):
            folder: str = getattr(entry, name) or ""
            if folder.startswith("/") and (problem := paths.folder_problem(folder)) is not None:
                yield f"{entry.at}.{name}", problem


def caption_notes(request: TrainRequest, job: Job) -> Iterator[tuple[str, str]]:
    """Where pictures come with words that are not read, as nobody said where captions come from."""
    if "caption_strategy" in options_given(request.extra_parameters.options):
        return
    for entry in job.entries:
        if entry.dataset_type == "image" and entry.caption_strategy is None and entry.instance_data_dir is not None:
            place = "instance_data_dir" if entry.at.startswith(CONFIG) else "source"
            for words in _unread(Path(entry.instance_data_dir)):
                yield f"{entry.at}.{place}", f"{words}; captions are made from the names of the files"


def _unread(folder: Path) -> Iterator[str]:
    """Words beside pictures; of text files the first entries of the folder tell."""
    for name in _TABLES:
        if (folder / name).is_file():
            yield f"{folder / name} is not read: caption_strategy textfile reads a .txt beside each picture"
    try:
        names = {path.name for path in islice(folder.iterdir(), _LOOKED_AT)}
    except OSError:  # told by `folder_problem`, or gone since
        return
    texts = {name.removesuffix(".txt") for name in names if name.endswith(".txt")}
    if pictures := [name for name in names if Path(name).stem in texts and not name.endswith(".txt")]:
        text = Path(min(pictures)).with_suffix(".txt")
        yield f"{folder / text} beside {min(pictures)} is not read: caption_strategy textfile would read it"


def folder_problem(folder: Path) -> str | None:
    """Why pictures can't be read from a folder."""
    try:
        if not folder.exists():
            return f"there is no folder {folder} on this machine; give the folder that holds the pictures"
        if not folder.is_dir():
            return f"{folder} is not a folder; give the folder that holds the pictures"
        return None if any(folder.iterdir()) else f"{folder} is empty; give the folder that holds the pictures"
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "its name can't be one of a folder"
        return f"{str(folder)[:200]} can't be looked at: {why}"


def _model_problem(name: str) -> str | None:
    path = paths.model_path(name)
    if path is None:
        return paths.model_problem(name)
    try:
        if path.is_file():
            files = " or ".join(_FILES)
            return None if path.suffix in _FILES else f"{path} is no file of weights; give a {files} file or a folder"
        if not path.is_dir():
            return f"there is no folder or file {path} on this machine; give one that exists, or a hub id (owner/name)"
        if (path / INDEX).is_file():
            return None
        return f"{path} holds no {INDEX}; give the folder of a whole pipeline, as diffusers saves it"
    except (OSError, ValueError) as e:
        why = e.strerror if isinstance(e, OSError) else "its name can't be one of a file"
        return f"{str(path)[:200]} can't be looked at: {why}"
