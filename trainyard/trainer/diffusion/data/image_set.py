"""The sets of pictures that a job is trained on: what the dataloader's entries and the options come to together."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attrs import evolve, frozen

from trainyard.trainer.diffusion.data.captions import Captioning
from trainyard.trainer.diffusion.data.frames import Framing, aligned_to
from trainyard.trainer.failures import ConfigError

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from schemas.diffusion.dataloader import Entry, WeightedRatio

ReferenceType = Literal["reference_strict", "reference_loose"]
_EMBEDS = frozenset({"text_embeds", "image_embeds"})
#: The last epoch or step of a set that has no end.
NEVER = 1 << 62


@frozen(kw_only=True)
class ImageSet:
    """One entry of the dataloader that holds pictures."""

    #: Where the entry stands, for messages.
    at: str
    id: str
    folder: Path
    framing: Framing
    captioning: Captioning
    #: Extra passes: an epoch takes every picture 1 + `repeats` times.
    repeats: int = 0
    #: The share of its pictures that an epoch takes; with `data_backend_sampling` `uniform` its weight among the sets.
    probability: float = 1.0
    max_num_samples: int | None = None
    batch_size: int = 1
    #: It is trained on in these epochs and optimizer steps, both counted from 1, first and last.
    epochs: tuple[int, int] = (1, NEVER)
    steps: tuple[int, int] = (1, NEVER)
    #: Ids of the sets that hold the pictures to edit.
    references: tuple[str, ...] = ()
    #: Of a set that holds pictures to edit.
    reference_type: ReferenceType | None = None

    def active(self, epoch: int, step: int) -> bool:
        """Whether it is trained on in an epoch and an optimizer step, both counted from 1."""
        return self.epochs[0] <= epoch <= self.epochs[1] and self.steps[0] <= step <= self.steps[1]


def image_sets(
    entries: "Sequence[Entry]", options: "Options", stride: int
) -> tuple[tuple[ImageSet, ...], tuple[ImageSet, ...]]:
    """The sets that are trained on, and those that hold pictures to edit, in the order of the entries.

    `stride` is the family's: pixels for one place of the latents. Raises `ConfigError` with all that is wrong.
    """
    problems: list[str] = []
    used = [entry for entry in entries if not entry.disabled and entry.dataset_type not in _EMBEDS]
    _check_ids(entries, problems)
    found = [_image_set(entry, options, stride, problems) for entry in used]
    images = [_with_sources(one, used) for one in found if one.reference_type is None]
    conditioning = {one.id: one for one in found if one.reference_type is not None}
    if not images and not problems:
        problems.append(f"{_field(entries)}: no entry is a set of pictures to train on (dataset_type image)")
    if images and not any(one.active(1, 1) for one in images):
        problems.append(f"{images[0].at}.start_epoch: no set begins at once; one must have start_epoch 1, start_step 0")
    _check_references(images, conditioning, problems)
    if problems:
        raise ConfigError(*problems)
    return tuple(images), tuple(conditioning.values())


def _check_ids(entries: "Sequence[Entry]", problems: list[str]) -> None:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.id in seen:
            problems.append(f"{entry.at}.id: {entry.id!r} is that of {seen[entry.id]} too; every id stands once")
        seen.setdefault(entry.id, entry.at)


def _image_set(entry: "Entry", options: "Options", stride: int, problems: list[str]) -> ImageSet:
    reference_type: ReferenceType | None = None
    if entry.dataset_type == "conditioning":
        reference_type = _reference_type(entry, problems)
    if not entry.instance_data_dir:
        problems.append(f"{entry.at}.instance_data_dir: is required: the folder of the pictures")
    return ImageSet(
        at=entry.at,
        id=entry.id,
        folder=Path(entry.instance_data_dir or "."),
        framing=_framing(entry, options, stride, problems),
        captioning=Captioning.of(entry, options, problems),
        repeats=entry.repeats,
        probability=entry.probability,
        max_num_samples=entry.max_num_samples,
        batch_size=entry.train_batch_size or options.train_batch_size,
        epochs=(entry.start_epoch, entry.end_epoch or NEVER),
        steps=(entry.start_step or 1, entry.end_step or NEVER),
        references=entry.conditioning_data,
        reference_type=reference_type,
    )


def _framing(entry: "Entry", options: "Options", stride: int, problems: list[str]) -> Framing:
    def told(name: str) -> Any:
        own = getattr(entry, name)
        return getattr(options, name) if own is None else own

    largest, target = told("maximum_image_size"), told("target_downsample_size")
    if largest is not None and target is None:
        problems.append(f"{entry.at}.target_downsample_size: is required with maximum_image_size")
    ratios = tuple(_weighted(bucket) for bucket in entry.crop_aspect_buckets or ())
    if entry.crop and entry.crop_aspect in ("closest", "random") and not ratios:
        problems.append(f"{entry.at}.crop_aspect_buckets: is required with crop_aspect {entry.crop_aspect!r}")
    return Framing(
        resolution=told("resolution"),
        resolution_type=told("resolution_type"),
        minimum_image_size=told("minimum_image_size"),
        maximum_image_size=largest,
        target_downsample_size=target,
        minimum_aspect_ratio=entry.minimum_aspect_ratio,
        maximum_aspect_ratio=entry.maximum_aspect_ratio,
        crop=entry.crop,
        crop_style=entry.crop_style,
        crop_aspect=entry.crop_aspect,
        crop_aspect_buckets=ratios,
        rounding=options.aspect_bucket_rounding,
        alignment=aligned_to(options.aspect_bucket_alignment, stride),
        max_upscale_threshold=entry.max_upscale_threshold,
    )


def _weighted(bucket: "WeightedRatio | float") -> tuple[float, float]:
    return (float(bucket), 1.0) if isinstance(bucket, int | float) else (bucket.aspect_bucket, bucket.weight)


def _reference_type(entry: "Entry", problems: list[str]) -> ReferenceType:
    given = entry.conditioning_type
    if given == "reference_strict":
        return "reference_strict"
    if given != "reference_loose":
        problems.append(f"{entry.at}.conditioning_type: is required: reference_strict or reference_loose")
    return "reference_loose"


def _with_sources(one: ImageSet, entries: "Sequence[Entry]") -> ImageSet:
    """With the sets that name it as their partner."""
    also = [e.id for e in entries if e.source_dataset_id == one.id and e.id not in one.references]
    return evolve(one, references=(*one.references, *also))


def _check_references(images: list[ImageSet], conditioning: dict[str, ImageSet], problems: list[str]) -> None:
    named = {name for one in images for name in one.references}
    for one in images:
        problems += [
            f"{one.at}.conditioning_data: {name!r} is no set of dataset_type conditioning; there is "
            f"{', '.join(conditioning) or 'none'}"
            for name in one.references
            if name not in conditioning
        ]
    problems += [
        f"{one.at}.id: no set of pictures is paired with {one.id!r}; name it in the conditioning_data of one"
        for one in conditioning.values()
        if one.id not in named
    ]


def _field(entries: "Sequence[Entry]") -> str:
    return entries[0].at.partition("[")[0] if entries else "datasets"
