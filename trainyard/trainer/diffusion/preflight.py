"""A diffusion job examined without running it: options, pictures, captions, steps, and the model's files."""

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from schemas.diffusion import Options
from trainyard.trainer.diffusion.beforehand import before_loading
from trainyard.trainer.diffusion.cache import places
from trainyard.trainer.diffusion.data import survey
from trainyard.trainer.diffusion.data.remote import brought
from trainyard.trainer.diffusion.engine import unused
from trainyard.trainer.diffusion.options import check_prediction, read_dataloader, read_options
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.failures import RunEnded, first_line, placed
from trainyard.trainer.imports import list_models_once, quickly
from trainyard.trainer.sources.how import How

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.data.gallery import Gallery
    from trainyard.trainer.diffusion.families.family import Family
    from trainyard.trainer.diffusion.fetching import Asking
    from trainyard.trainer.diffusion.weights import Weights
    from trainyard.trainer.preflight import Asked

#: Captions that are looked at for words that the model will not see.
_CAPTIONS = 2_000
_NAME = "base_model.model_name"
log = logging.getLogger("trainyard.trainer")


def examine(asked: "Asked", folder: Path) -> dict[str, Any]:
    """What the job would do, as JSON; `folder` is thrown away after it. Raises what would end it."""
    options = read_options(asked.request, asked.processes)
    plan, entries = Plan.of(options), read_dataloader(asked.request, options)
    places(entries, options, asked.cache)
    from trainyard.trainer.diffusion import families
    from trainyard.trainer.diffusion.fetching import Asking

    how = How(cache=asked.cache, check=lambda: None, say=log.info, limits=asked.limits)
    entries = brought(entries, asked.request, asked.secrets, **how)
    with quickly(*unused(options)):
        family, notes = families.find(options.model_family), list[str]()
    gallery = survey(entries, options, family.stride, options.seed or 0, cache=asked.cache)
    notes += gallery.notes
    asking = Asking(request=asked.request, secrets=asked.secrets, how=how, into=folder)
    weights = _weights(asking, options, family, notes)
    if weights is None:
        check_prediction(options, options.prediction_type or family.prediction)
        notes += family.notes(options)
    else:
        with quickly(*unused(options)):
            list_models_once()
            notes += before_loading(options, plan, family, weights)
        notes += _cut(options, family, weights, (*gallery.captions, *plan.texts))
    steps = _steps(options, gallery, asked.processes)
    if options.lr_warmup_steps >= steps:
        rate = f"all {steps} steps warm up, and none comes to the learning rate of {options.learning_rate:g}"
        notes.append(f"extra_parameters.lr_warmup_steps: {rate}")
    return {
        "data": _data(gallery),
        "model": _model(options, family, weights),
        "memory": {} if weights is None else _memory(asked, options, family, weights, gallery, notes),
        "steps": steps,
        "warnings": [placed(note) for note in notes],
    }


def _weights(asking: "Asking", options: Options, family: "Family", notes: list[str]) -> "Weights | None":
    """The model's files: those that are here, and of a hub's model all but its weights."""
    from trainyard.trainer.diffusion.fetching import NotHere
    from trainyard.trainer.diffusion.source import look

    try:
        return look(asking, options, family)
    except NotHere as e:
        notes.append(f"{_NAME}: {e} is not on this machine; what is in it is looked at by the run alone")
        return None


def _memory(
    asked: "Asked",
    options: Options,
    family: "Family",
    weights: "Weights",
    gallery: "Gallery",
    notes: list[str],
) -> dict[str, Any]:
    """What a process of the job needs at the peak of a step, and on the CPU whether it is there."""
    from trainyard.trainer.diffusion.memory.estimate import estimated
    from trainyard.trainer.text.memory.room import available

    kind: Literal["cpu", "cuda"] = "cuda" if asked.gpus else "cpu"
    try:
        found = estimated(family, weights, options, gallery, device_kind=kind, processes=asked.processes)
    except RunEnded:
        raise
    except Exception as e:  # whatever a library does not do on shapes; the job may run all the same
        notes.append(f"{_NAME}: how much memory a step needs is not known: {type(e).__name__}: {first_line(e)}")
        return {}
    if asked.gpus:
        return found.plain()
    import torch

    there = available(torch.device("cpu"), (asked.request.get("resources") or {}).get("memory_gb"), asked.processes)
    return {**found.plain(), "available_bytes": there, "fits": found.bytes <= there}


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
    if weights is None or not weights.whole:
        return found
    files = [path for path in weights.files(family.part) if path.suffix != ".json"]
    return found | {"bytes": sum(path.stat().st_size for path in files)}
