"""The dataloader file: the data sets and caches of a run, each an `Entry` (contract of the SimpleTuner API, 8.6)."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from attrs import evolve, field, frozen

from schemas.converter import Structured, structure
from schemas.diffusion import later
from schemas.diffusion.spelling import respelled
from schemas.fields import INTERNAL
from schemas.limits import Doc, Length, Range
from schemas.trail import Trail
from schemas.train_terms import AtLeastOne, Count, Positive, Text

DatasetType = Literal["image", "conditioning", "text_embeds", "image_embeds"]
CaptionStrategy = Literal["filename", "textfile", "instanceprompt"]
ResolutionType = Literal["pixel", "area", "pixel_area"]
ConditioningType = Literal["reference_strict", "reference_loose"]

#: Entries that hold pictures of their own.
PICTURES: Final = ("image", "conditioning")

Ratio = Annotated[float, Range(ge=0.1, le=10)]


def _spelled(default: Any, **metadata: Any) -> Any:
    return field(default=default, metadata=metadata)


@frozen(kw_only=True)
class WeightedRatio:
    """An aspect ratio (width by height) and how often it is drawn."""

    aspect_bucket: Annotated[Ratio, Doc("width by height")]
    weight: Annotated[Positive, Doc("how often, beside the others")] = 1.0


@frozen(kw_only=True)
class Entry:
    """A data set or a cache. What is none here is as the option of the same name says."""

    id: Annotated[Text, Length(min=1, max=200), Doc("unique and stable")]
    type: Annotated[Literal["local"], Doc("where files lie")] = _spelled(
        "local", later=("aws", "s3", "csv", "huggingface", "memory", "webshart")
    )
    dataset_type: Annotated[DatasetType, Doc("what it holds")] = _spelled(
        "image",
        later=("video", "eval", "conditioning_image_embeds", "audio", "caption", "distillation_cache", "grounding"),
    )
    disabled: Annotated[bool, Doc("left out")] = _spelled(False, aliases=("disable",))
    default: Annotated[bool, Doc("text_embeds: the one for every data set that names none")] = False
    cache_dir: Annotated[Text | None, Doc("text_embeds, image_embeds: their folder")] = None
    cache_dir_vae: Annotated[Text | None, Doc("folder of the latents of this data set")] = None
    instance_data_dir: Annotated[Text | None, Doc("folder of the files")] = None
    text_embeds: Annotated[Text | None, Doc("id of a text_embeds entry")] = _spelled(
        None, aliases=("text_embed_cache",)
    )
    image_embeds: Annotated[Text | None, Doc("id of an image_embeds entry")] = None
    caption_strategy: Annotated[CaptionStrategy | None, Doc("where captions come from")] = _spelled(
        None, values={"instance_prompt": "instanceprompt"}, later=("parquet", "csv", "huggingface", "webshart")
    )
    instance_prompt: Annotated[Text | None, Doc("the caption of every picture")] = None
    prepend_instance_prompt: Annotated[bool | None, Doc("put it before every caption")] = None
    only_instance_prompt: Annotated[bool | None, Doc("it in place of every caption")] = None
    disable_multiline_split: Annotated[bool, Doc("a text file is one caption, not one each line")] = False
    resolution: Annotated[Positive | None, Doc("size of a training picture")] = None
    resolution_type: Annotated[ResolutionType | None, Doc("its unit")] = None
    minimum_image_size: Annotated[Positive | None, Doc("smaller files are left out")] = None
    maximum_image_size: Annotated[Positive | None, Doc("larger files are made smaller first")] = None
    target_downsample_size: Annotated[Positive | None, Doc("to this size")] = None
    minimum_aspect_ratio: Annotated[Positive | None, Doc("narrower files are left out")] = None
    maximum_aspect_ratio: Annotated[Positive | None, Doc("wider files are left out")] = None
    max_upscale_threshold: Annotated[Positive | None, Doc("closest, random: the most that a file is made larger")] = (
        None
    )
    crop: Annotated[bool, Doc("cut pictures")] = False
    crop_style: Annotated[Literal["random", "center", "corner"], Doc("which part is kept")] = _spelled(
        "random", values={"centre": "center"}, later=("face",)
    )
    crop_aspect: Annotated[Literal["square", "preserve", "closest", "random"], Doc("which shape")] = "square"
    crop_aspect_buckets: Annotated[
        tuple[WeightedRatio | Ratio, ...] | None, Doc("closest, random: the ratios to choose from")
    ] = None
    repeats: Annotated[Count, Doc("extra passes in each epoch")] = 0
    probability: Annotated[Positive, Doc("how often, beside other data sets")] = 1.0
    max_num_samples: Annotated[AtLeastOne | None, Doc("a fixed part of the files, of so many")] = None
    train_batch_size: Annotated[AtLeastOne | None, Doc("pictures that a device takes at once")] = None
    start_epoch: Annotated[AtLeastOne, Doc("used from this epoch on")] = 1
    start_step: Annotated[Count, Doc("used from this step on")] = 0
    end_epoch: Annotated[AtLeastOne | None, Doc("the last epoch that it is used in")] = None
    end_step: Annotated[AtLeastOne | None, Doc("the last step that it is used in")] = None
    metadata_backend: Annotated[Literal["discovery"], Doc("how files are found")] = _spelled(
        "discovery", later=("parquet", "huggingface")
    )
    conditioning_data: Annotated[tuple[Text, ...], Doc("ids of its conditioning sets")] = ()
    conditioning_type: Annotated[ConditioningType | None, Doc("how its pictures belong to the others")] = _spelled(
        None, later=("mask", "controlnet")
    )
    source_dataset_id: Annotated[Text | None, Doc("conditioning: the data set that it belongs to")] = None
    vae_cache_ondemand: Annotated[bool | None, Doc("make latents when they are first needed")] = None
    vae_cache_disable: Annotated[bool | None, Doc("make latents each time, and keep none")] = None
    text_cache_ondemand: Annotated[bool | None, Doc("text_embeds: make them when they are first needed")] = None
    text_cache_disable: Annotated[bool | None, Doc("text_embeds: make them each time, and keep none")] = None
    text_encoder_batch_size: Annotated[AtLeastOne | None, Doc("text_embeds: prompts at once")] = None
    #: What messages call it.
    at: str = field(default="", eq=False, metadata=INTERNAL)

    @classmethod
    def respell(cls, document: Mapping[str, Any], trail: Trail) -> dict[str, Any]:
        """In the words of this class; what this version does not do is an error."""
        given = respelled(cls, document, trail, later=later.ENTRIES)
        if given.pop("disable_vae_cache", None) is not None:
            trail.error("is no field any more; vae_cache_disable means that", "disable_vae_cache")
        if isinstance(ids := given.get("conditioning_data"), str):
            given["conditioning_data"] = [ids]
        return given

    @classmethod
    def settle(cls, given: dict[str, Any], document: Mapping[str, Any], trail: Trail) -> None:
        """What can be judged of one entry alone."""
        kind = given.get("dataset_type", "image" if document.get("dataset_type") is None else None)
        if kind in PICTURES and not document.get("instance_data_dir") and not given.get("disabled"):
            trail.error("is required: the folder of the files", "instance_data_dir")
        if kind == "conditioning" and document.get("conditioning_type") is None:
            trail.error("is required of a conditioning set: reference_strict or reference_loose", "conditioning_type")
        if given.get("default") and kind not in ("text_embeds", None):
            trail.error("is for text_embeds alone", "default")
        if given.get("crop_aspect") in ("closest", "random") and not document.get("crop_aspect_buckets"):
            trail.error(
                f"is required with crop_aspect {given['crop_aspect']!r}: a list of ratios", "crop_aspect_buckets"
            )
        for first, last in (
            ("minimum_aspect_ratio", "maximum_aspect_ratio"),
            ("start_epoch", "end_epoch"),
            ("start_step", "end_step"),
        ):
            if given.get(first) is not None and given.get(last) is not None and given[first] > given[last]:
                trail.error(f"is {given[first]:g}, more than {last} {given[last]:g}", first)


def read_entries(
    document: object, at: str = "data_backend_config", *, masked: bool = False, hidden: bool = False
) -> Structured[tuple[Entry, ...]]:
    """The entries of a dataloader, those that are disabled left out; `at` is what messages call it.

    `masked` and `hidden` are those of `structure`.
    """
    read = structure({"entries": document}, _File, masked=masked, hidden=hidden)
    errors = tuple(evolve(error, path=at + error.path.removeprefix("entries")) for error in read.errors)
    warnings = tuple(evolve(warning, path=at + warning.path.removeprefix("entries")) for warning in read.warnings)
    return Structured(placed(read.value.entries, at) if read.value is not None else None, errors, warnings)


def placed(entries: tuple[Entry, ...], at: str) -> tuple[Entry, ...]:
    """Those that are not disabled, each with what messages call it."""
    named = (evolve(entry, at=f"{at}[{n}]") for n, entry in enumerate(entries))
    return tuple(entry for entry in named if not entry.disabled)


@frozen(kw_only=True)
class _File:
    entries: tuple[Entry, ...]
