"""What is wrong with weights or options for a family, in words that name the option."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from schemas.diffusion.rules import against_prediction
from trainyard.trainer.diffusion.families.parts.schedule import prediction
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from schemas.diffusion import Options

AT = "extra_parameters"
#: Options that some families do not have, beside those that `schemas.diffusion.rules` knows of.
FLOW = ("inference_scheduler_timestep_spacing",)
T5 = ("t5_padding", "tokenizer_max_length")
RESCALE = ("validation_guidance_rescale",)


def missing(weights: Weights, parts: Iterable[str], elsewhere: Mapping[str, Sequence[str]]) -> list[str]:
    """A message for each part that the weights do not have, at the option that may name it."""
    found = []
    for part in parts:
        if weights.at(part) is None or not (part.startswith("tokenizer") or weights.has_tensors(part)):
            option = next((name for name, named in elsewhere.items() if part in named), None)
            more = f"; {option} may name one" if option else ""
            where = weights.at(part) or weights.root
            found.append(f"{AT}.pretrained_model_name_or_path: {weights.name} has no {part} ({where}){more}")
    return found


def not_elsewhere(options: "Options", family: str, elsewhere: Mapping[str, Sequence[str]]) -> list[str]:
    """A message for each option that names a part which the family does not have."""
    names = [field.name for field in attrs.fields(type(options)) if _names_part(field.name)]
    wrong = [name for name in names if getattr(options, name) is not None and name not in elsewhere]
    return [f"{AT}.{name}: {family} has no such part, or takes it from nowhere else; leave it out" for name in wrong]


def _names_part(option: str) -> bool:
    return option.endswith("_model_name_or_path") and option != "pretrained_model_name_or_path"


def other_family(weights: Weights, family: str, part: str, classes: Sequence[str]) -> list[str]:
    """A message where the denoiser is of a class that is not one of these."""
    told = {name: weights.config(name).get("_class_name") for name in ("transformer", "unet")}
    named = told[part] or next(filter(None, told.values()), None)
    if named is None or named in classes:
        return []
    right = family_of(str(named))
    hint = f"; model_family {right} would be right" if right else ""
    return [f"{AT}.model_family: {weights.name} has a {named}, {family} has a {classes[0]}{hint}"]


def family_of(named: str) -> str | None:
    """The family whose denoiser has this class name; None where no family has it."""
    from trainyard.trainer.diffusion import families

    found = (name for name in families.names() if named in families.find(name).denoisers)
    return next(found, None)


def flavour(options: "Options", family: str, flavours: Mapping[str, Any]) -> list[str]:
    """A message where the family has no such flavour."""
    if options.model_flavour is None or options.model_flavour in flavours:
        return []
    return [f"{AT}.model_flavour: {options.model_flavour!r} is not one of {', '.join(flavours)} ({family})"]


def of_flow(options: "Options") -> list[str]:
    """A message where the options say something else than flow of a model of flow matching."""
    if options.prediction_type in (None, "flow_matching"):
        return []
    return [f"{AT}.prediction_type: {options.prediction_type}: it is a model of flow_matching; leave it out"]


def of_schedule(options: "Options", weights: Weights) -> list[str]:
    """Messages for options that contradict each other in a model with a noise schedule."""
    said = prediction(options, weights.config("scheduler"))
    if said not in ("epsilon", "v_prediction"):
        return [f"{AT}.prediction_type: {said}: epsilon or v_prediction would be right"]
    if options.rescale_betas_zero_snr and said == "epsilon":
        why = "where nothing of the picture is left, a model of epsilon has nothing to learn"
        return [f"{AT}.rescale_betas_zero_snr: {why}; it is for prediction_type v_prediction"]
    return [f"{AT}.{name}: {message}" for name, message in against_prediction(options, said)]


def no_layer_to_skip(options: "Options", why: str) -> list[str]:
    """A note where `clip_skip` is set for a family that reads no hidden layer of a CLIP."""
    return [f"{AT}.clip_skip: is not used: {why}"] if options.clip_skip else []


def not_here(options: "Options", family: str, names: Iterable[str]) -> list[str]:
    """A message for each of these options that is set: the family does not have them."""
    usual = {field.name: field.default for field in attrs.fields(type(options))}
    wrong = [name for name in names if getattr(options, name) != usual[name]]
    return [f"{AT}.{name}: {family} has nothing of the kind; leave it out" for name in wrong]
