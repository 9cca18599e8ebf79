"""From a `/train` document to the options and the data of its diffusion job: everything that is wrong, at once."""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from schemas.asked import Asked
from schemas.converter import structure
from schemas.diffusion import later
from schemas.diffusion.contents import put_in
from schemas.diffusion.data_rules import data_contradictions
from schemas.diffusion.dataloader import Entry, placed
from schemas.diffusion.definitions import definitions
from schemas.diffusion.files import absolute
from schemas.diffusion.lycoris import USUAL, LycorisFile
from schemas.diffusion.mapping import Mapped, Source, differences, mapped
from schemas.diffusion.options import Options
from schemas.diffusion.pipelines import INDEX, PIPELINES, pipeline_of
from schemas.diffusion.rules import contradictions
from schemas.diffusion.spelling import UNSET, undashed
from schemas.fields import places, shape_of
from schemas.trail import Trail
from schemas.train import ExtraParameters
from schemas.values import FieldError

PREFIX: Final = "extra_parameters"
CONFIG: Final = f"{PREFIX}.data_backend_config"


@frozen(kw_only=True)
class Job:
    """What a diffusion job is to do; its options name no files of options any more, and leave nothing to be chosen."""

    options: Options
    entries: tuple[Entry, ...]


def read_job(
    request: Mapping[str, Any], processes: int = 1, asked: Callable[[str], bool] | None = None
) -> tuple[Job | None, list[FieldError]]:
    """The job of a document, or all that is wrong with its options and data.

    `asked` tells of a field's path whether the author gave it; without it all that is there was given. Options under
    their own names in `extra_parameters` win over the document's other fields. Files that options name are read.
    """
    trail = Trail(PREFIX, places(Options), strict=False, masked=True)
    given, problems = put_in(_given(request.get(PREFIX) or {}, trail), PREFIX)
    known = Asked(request).__contains__ if asked is None else asked
    source = Source(request=request, asked=known, given=given, processes=processes)
    found = mapped(source)
    read = structure({**found.values, **given}, Options, masked=True, prefix=PREFIX)
    errors = [*trail.errors(), *problems, *(_from_its_field(error, found, given) for error in read.errors)]
    if asked is not None:
        errors += [FieldError(f"{PREFIX}.{name}", message) for name, message in differences(source, found)]
    if read.value is None:
        return None, errors
    options = evolve(read.value, num_processes=processes, on_bad_row=source.part(PREFIX).get("on_bad_row", "fail"))
    options, more = _completed(options, source)
    entries = _entries(options, source)
    options = evolve(options, data_backend_config=entries if options.data_backend_config is not None else None)
    errors += more
    for name, message in _together(options, entries):
        at = name if "." in name or "[" in name else _path(name, found, given)
        errors.append(FieldError(at, message))
    job = Job(options=options, entries=entries) if entries is not None and not errors else None
    return job, list(dict.fromkeys(errors))


def options_given(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The options among the keys of `extra_parameters`, in their own words, as far as they can be read."""
    return _given(extra, Trail(PREFIX, {}, strict=False, masked=True))


def is_option(key: str) -> bool:
    """Whether a key of `extra_parameters` is an option of the diffusion engine, in any spelling."""
    name = key.removeprefix("--")
    return key != name or name in _names() or name.startswith(later.FAMILIES_OF_OPTIONS)


@cache
def _names() -> frozenset[str]:
    return frozenset(name for one in definitions() for name in (one.name, *one.aliases)) | later.OPTIONS.keys()


def _given(extra: Mapping[str, Any], trail: Trail) -> dict[str, Any]:
    """The options that stand in `extra_parameters`; keys of others are left out."""
    common, ours = shape_of(ExtraParameters).fields, shape_of(Options).fields
    own = {name: value for name, value in extra.items() if name not in common}
    return {name: value for name, value in Options.respell(own, trail).items() if name in ours and value is not None}


def _path(name: str, found: Mapped, given: Mapping[str, Any]) -> str:
    return found.paths[name] if name in found.paths and name not in given else f"{PREFIX}.{name}"


def _from_its_field(error: FieldError, found: Mapped, given: Mapping[str, Any]) -> FieldError:
    """An error of a value that another field of the document said, at that field."""
    name = error.path.removeprefix(f"{PREFIX}.")
    return evolve(error, path=_path(name, found, given)) if name in found.paths else error


def _completed(options: Options, source: Source) -> tuple[Options, list[FieldError]]:
    """With what follows from other options and from the model's own files."""
    errors: list[FieldError] = []
    known = None
    name = options.pretrained_model_name_or_path or ""
    if name.startswith("/"):
        known = PIPELINES.get(pipeline_of(Path(name)) or "")
    family = options.model_family or (known.family if known else "")
    if not family:
        families = ", ".join(sorted({one.family for one in PIPELINES.values()}))
        errors.append(
            FieldError(f"{PREFIX}.model_family", f"is required where no local {INDEX} tells it: {families}, …")
        )
    elif known is not None and known.family != family:
        errors.append(FieldError(f"{PREFIX}.model_family", f"is {family!r}, and {name}/{INDEX} is of {known.family!r}"))
    flavour = options.model_flavour or (known.flavour if known and known.family == family else None)
    whole = evolve(
        options,
        model_family=family,
        model_flavour=flavour,
        lora_alpha=options.lora_rank if options.lora_alpha is None else options.lora_alpha,
        lycoris_config=_lycoris(options),
        max_train_steps=options.max_train_steps or 0,
        resume_from_folder=options.resume_from_folder or _output(source.part(PREFIX)),
    )
    return whole, errors


def _output(extra: Mapping[str, Any]) -> str | None:
    """The folder that a configuration's runs share, where it says one."""
    given = undashed(extra).get("output_dir")
    return given if isinstance(given, str) and given not in UNSET else None


def _lycoris(options: Options) -> LycorisFile | None:
    """The adapter that is described; none where it is in a file that can't be taken."""
    given = options.lycoris_config
    if given is None:
        return USUAL if options.lora_type == "lycoris" and options.model_type == "lora" else None
    return given if isinstance(given, LycorisFile) else None


def _entries(options: Options, source: Source) -> tuple[Entry, ...] | None:
    """The data sets and caches: those of the dataloader, else one for each data set of the document.

    None where the dataloader is a file that can't be taken.
    """
    given = options.data_backend_config
    if given is None:
        return of_datasets(source.request)
    return None if isinstance(given, str) else placed(given, CONFIG)


def of_datasets(request: Mapping[str, Any]) -> tuple[Entry, ...]:
    """One for each of the document's own data sets: format `imagefolder`, on this machine."""
    found = []
    for n, dataset in enumerate(request.get("datasets") or ()):
        place = str(dataset.get("source", "")).removeprefix("file://")
        folder = absolute(place, Path.cwd())
        digest = sha256(folder.encode(errors="surrogateescape")).hexdigest()
        times = int(dataset.get("weight") or 1)
        found.append(
            Entry(
                id=f"{Path(folder).name[:100] or 'images'}-{digest[:8]}",
                instance_data_dir=folder,
                repeats=max(0, times - 1),
                at=f"datasets[{n}]",
            )
        )
    return tuple(found)


def _together(options: Options, entries: tuple[Entry, ...] | None) -> Iterator[tuple[str, str]]:
    yield from contradictions(options)
    if entries is not None:
        yield from data_contradictions(options, entries, "datasets" if options.data_backend_config is None else CONFIG)


def asked_processes(extra: Mapping[str, Any]) -> int | None:
    """The processes that keys of `extra_parameters` ask for; None where they do not, or wrongly."""
    found = options_given(extra).get("num_processes")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None
