"""Options of the pictures that a run makes to show what it has learnt."""

from functools import partial
from typing import Annotated, Final, Literal

from attrs import frozen

from schemas.diffusion.data_options import DataOptions
from schemas.diffusion.option import option
from schemas.limits import Holds, Range
from schemas.train_terms import AtLeastOne, Count, Fraction, NotNegative, Seed, Text

SamplerName = Literal["ddim", "ddpm", "euler", "euler-a", "unipc", "dpm++"]

_SMALLEST: Final = 16
_LARGEST: Final = 16_384

_validation = partial(option, "validation")


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Width and height of each picture that `validation_resolution` names. Raises `ValueError`.

    `1024`, `1024x768`, several of them with commas; a number under 128 is megapixels of a square.

    >>> sizes("512, 1024x768, 0.25")
    ((512, 512), (1024, 768), (512, 512))
    """
    found = [_size(part.strip().lower()) for part in text.split(",")]
    if not all(_SMALLEST <= edge <= _LARGEST for size in found for edge in size):
        raise ValueError(f"{text!r} has an edge under {_SMALLEST} or over {_LARGEST} pixels")
    return tuple(found)


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.partition("x")
    if cross:
        return int(width), int(height)
    edge = float(text)
    if not 0 < edge <= _LARGEST:
        raise ValueError(f"{text!r} is no size")
    if edge < 128:
        edge = round((edge * 1024 * 1024) ** 0.5 / 64) * 64
    return int(edge), int(edge)


def _is_sizes(text: str) -> bool:
    try:
        return bool(sizes(text))
    except ValueError:
        return False


Sizes = Annotated[str, Holds(_is_sizes, "sizes such as 1024, 1024x768 or 512,1024")]


@frozen(kw_only=True)
class ValidationOptions(DataOptions):
    """Which pictures are made, when, and how."""

    validation_prompt: Text | None = _validation(None, "prompt; without any there is no validation")
    validation_negative_prompt: str = _validation("blurry, cropped, ugly", "what guidance leads away from", empty=True)
    validation_prompt_library: bool = _validation(False, "more prompts, of the trainer's own")
    user_prompt_library: Text | None = _validation(
        None, "path of a JSON object {name: prompt}: more prompts", path=True
    )
    validation_step_interval: Count = _validation(
        100, "steps between validations; 0: none by steps", aliases=("validation_steps",)
    )
    validation_epoch_interval: AtLeastOne | None = _validation(None, "epochs between validations")
    validate_after_step: AtLeastOne | None = _validation(None, "none before this step")
    validate_after_epoch: AtLeastOne | None = _validation(None, "none before this epoch")
    validation_on_startup: bool = _validation(False, "one when the run begins")
    validation_disable: bool = _validation(False, "none at all")
    disable_benchmark: bool = _validation(False, "no pictures of the base model before the first step")
    validation_num_inference_steps: AtLeastOne = _validation(30, "steps of sampling")
    validation_guidance: NotNegative = _validation(7.5, "guidance")
    validation_guidance_rescale: Fraction = _validation(0, "rescaling of guidance, of sdxl")
    validation_guidance_real: NotNegative = _validation(1.0, "Flux: guidance by a second pass; 1: none")
    validation_resolution: Sizes = _validation("256", "width x height, several with commas; under 128: megapixels")
    validation_seed: Seed | None = _validation(None, "none: seed")
    validation_randomize: bool = _validation(False, "another seed each time")
    validation_seed_source: Literal["cpu", "gpu"] = _validation("cpu", "where noise is drawn")
    num_validation_images: AtLeastOne = _validation(1, "pictures of each prompt and size")
    validation_image_format: Literal["png", "webp", "jpeg"] = _validation("png", "format of the files")
    validation_image_quality: Annotated[int, Range(ge=1, le=100)] = _validation(90, "of webp and jpeg")
    validation_noise_scheduler: SamplerName | None = _validation(None, "sampler; none: the model's own")
    validation_lycoris_strength: NotNegative = _validation(1.0, "strength of a LyCORIS adapter in these pictures")
    validation_preview: bool = _validation(False, "show pictures while they are made")
    validation_preview_decoder: Text | None = _validation(
        None,
        "hub id or folder of an AutoencoderTiny for that; none: the family's own; colours fitted to the training "
        "pictures where a hub does not give it",
        path=True,
    )
    validation_preview_steps: AtLeastOne = _validation(
        1, "after the first sampling step each nth is shown, and the last"
    )
    validation_using_datasets: bool | None = _validation(
        None, "pictures to edit are drawn from the training data; none: where the model edits"
    )
    validation_method: Literal["simpletuner-local", "external-script"] = _validation(
        "simpletuner-local", "pictures by the trainer, or a script in their place"
    )
    validation_external_script: Text | None = _validation(None, "of external-script: its command line")
    validation_external_background: bool = _validation(False, "of external-script: training does not wait for it")
