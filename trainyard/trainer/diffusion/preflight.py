"""A diffusion job examined without running it: options, pictures, captions, steps, and the model's files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from schemas.diffusion import Options
from trainyard.trainer.diffusion.cache import places
from trainyard.trainer.diffusion.data import survey
from trainyard.trainer.diffusion.options import check_prediction, read_dataloader, read_options
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.failures import ConfigError, ModelError, placed

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.data.gallery import Gallery
    from trainyard.trainer.diffusion.families.family import Family
    from trainyard.trainer.diffusion.weights import Weights

#: Captions that are looked at for words that the model will not see.
_CAPTIONS = 2_000
_NAME = "base_model.model_name"


class Question(Protocol):
    """What is asked: the resolved document, and what the job would be given."""

    @property
    def request(self) -> Mapping[str, Any]: ...
    @property
    def processes(self) -> int: ...
    @property
    def cache(self) -> Path: ...


class _Remote(Exception):
    """A model that is not on this machine; it is not fetched for a look at it."""


def examine(asked: Question) -> dict[str, Any]:
    """What the job would do, as JSON. Raises what would end it."""
    options = read_options(asked.request, asked.processes)
    plan, entries = Plan.of(options), read_dataloader(asked.request, options)
    places(entries, options, asked.cache)
    from trainyard.trainer.diffusion import families

    family, notes = families.find(options.model_family), list[str]()
    check_prediction(options, options.prediction_type or family.prediction)
    gallery = survey(entries, options, family.stride, options.seed or 0, cache=asked.cache)
    notes += [*gallery.notes, *family.notes(options)]
    weights = _weights(options, family, notes)
    if weights is not None:
        notes += _cut(options, family, weights, (*gallery.captions, *plan.texts))
    steps = _steps(options, gallery, asked.processes)
    if options.lr_warmup_steps >= steps:
        rate = f"all {steps} steps warm up, and none comes to the learning rate of {options.learning_rate:g}"
        notes.append(f"extra_parameters.lr_warmup_steps: {rate}")
    return {
        "data": _data(gallery),
        "model": _model(options, family, weights),
        "memory": {},
        "steps": steps,
        "warnings": [placed(note) for note in notes],
    }


def _weights(options: Options, family: "Family", notes: list[str]) -> "Weights | None":
    """The model's files, where they are here and whole."""
    from trainyard.trainer.diffusion.source import gathered

    try:
        weights = gathered(options, family, _here)
    except _Remote as e:
        notes.append(f"{_NAME}: {e} is not on this machine; what is in it is looked at by the run alone")
        return None
    if problems := family.check(weights, options):
        raise ConfigError(*problems)
    return weights


def _here(name: str, _revision: str, option: str, _only: Sequence[str]) -> tuple[Path, bool]:
    path = Path(name).expanduser()
    if path.exists():
        return path.resolve(), False
    if path.is_absolute():
        raise ModelError(f"extra_parameters.{option}: {name}: there is no such file or folder")
    raise _Remote(name)


def _cut(options: Options, family: "Family", weights: "Weights", prompts: tuple[str, ...]) -> list[str]:
    """How many captions and prompts are longer than the model reads."""
    import torch

    side = family.texts(weights, options, torch.device("cpu"))
    lost = {prompt: count for prompt in prompts[:_CAPTIONS] if (count := side.cut(prompt))}
    if not lost:
        return []
    longest = max(lost, key=lambda prompt: lost[prompt])
    of = f"the first {_CAPTIONS:,} captions" if len(prompts) > _CAPTIONS else f"{len(prompts):,} captions and prompts"
    shown = longest if len(longest) <= 80 else f"{longest[:80]}…"
    return [
        f"datasets: {len(lost):,} of {of} are longer than the model reads, and are cut: "
        f"{lost[longest]:,} tokens of {shown!r} are lost"
    ]


def _steps(options: Options, gallery: "Gallery", processes: int) -> int:
    from trainyard.trainer.diffusion.data.epochs import Epochs
    from trainyard.trainer.diffusion.pace import Pace

    return Pace.of(options, Epochs(gallery, options, options.seed or 0, processes)).total


def _data(gallery: "Gallery") -> dict[str, Any]:
    """Pictures by set and by bucket."""
    buckets = Counter(picture.frame.bucket for picture in gallery.pictures)
    return {
        "pictures": len(gallery.pictures),
        "sets": list(gallery.plain()),
        "buckets": {f"{width}x{height}": count for (width, height), count in sorted(buckets.items())},
        "captions": len([caption for caption in gallery.captions if caption]),
        "references": len(gallery.references),
    }


def _model(options: Options, family: "Family", weights: "Weights | None") -> dict[str, Any]:
    """What is trained, as far as it is known without loading it."""
    found = {
        "family": family.name,
        "flavour": options.model_flavour or family.usual_flavour,
        "prediction": options.prediction_type or family.prediction,
        "trained": options.lora_type if options.model_type == "lora" else "full",
    }
    if weights is None:
        return found
    files = [path for path in weights.files(family.part) if path.suffix != ".json"]
    return found | {"bytes": sum(path.stat().st_size for path in files)}
