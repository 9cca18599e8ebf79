"""What the entries of a dataloader must say together, and beside the options that they fall back on."""

from collections.abc import Iterator
from typing import Any

from schemas.diffusion.dataloader import PICTURES, Entry
from schemas.diffusion.options import Options
from schemas.diffusion.pipelines import EDITORS, PREDICTIONS

Found = Iterator[tuple[str, str]]

_SMALLEST_EDGE = 16
_LARGEST_AREA = 20


def data_contradictions(options: Options, entries: tuple[Entry, ...], at: str) -> Found:
    """Paths of entries, or names of options, each with what is wrong with it; `at` is what all entries are called."""
    if not any(entry.dataset_type == "image" for entry in entries):
        yield at, "has no entry of dataset_type image to train on"
    yield from _names(entries)
    yield from _defaults(entries)
    yield from _pairs(entries)
    yield from _edited(options, entries)
    yield from _beginnings(entries, at)
    for entry in entries:
        if entry.dataset_type in PICTURES:
            yield from _sizes(options, entry)
        if entry.dataset_type == "image":
            yield from _captions(options, entry)


def wish(options: Options, entry: Entry, name: str) -> Any:
    """What an entry says of one thing, else what the options say."""
    own = getattr(entry, name)
    return getattr(options, name) if own is None else own


def _names(entries: tuple[Entry, ...]) -> Found:
    seen: dict[str, str] = {}
    for entry in entries:
        if entry.id in seen:
            yield f"{entry.at}.id", f"{entry.id!r} is that of {seen[entry.id]} too; ids must differ"
        seen.setdefault(entry.id, entry.at)
    kinds = {entry.id: entry.dataset_type for entry in entries}
    for entry in entries:
        for name in ("text_embeds", "image_embeds"):
            named = getattr(entry, name)
            if named is not None and kinds.get(named) != name:
                yield f"{entry.at}.{name}", f"{named!r} is the id of no {name} entry"


def _defaults(entries: tuple[Entry, ...]) -> Found:
    texts = [entry for entry in entries if entry.dataset_type == "text_embeds"]
    usual = [entry for entry in texts if entry.default]
    for entry in usual[1:]:
        yield f"{entry.at}.default", f"is true as that of {usual[0].id!r} is; only one can be the default"
    if len(texts) > 1 and not usual:
        yield f"{texts[0].at}.default", "is false as every other is; one of the text_embeds must be the default"


def _pairs(entries: tuple[Entry, ...]) -> Found:
    """Conditioning sets and those that they belong to."""
    kinds = {entry.id: entry.dataset_type for entry in entries}
    named = {one for entry in entries for one in entry.conditioning_data}
    for entry in entries:
        if entry.conditioning_data and entry.dataset_type != "image":
            yield f"{entry.at}.conditioning_data", f"is for data sets of images, not {entry.dataset_type}"
        for one in entry.conditioning_data:
            if kinds.get(one) != "conditioning":
                there = ", ".join(name for name, kind in kinds.items() if kind == "conditioning") or "none"
                yield f"{entry.at}.conditioning_data", f"{one!r} is the id of no conditioning set; there are {there}"
        source = entry.source_dataset_id
        if source is not None and kinds.get(source) != "image":
            yield f"{entry.at}.source_dataset_id", f"{source!r} is the id of no data set of images"
        if entry.dataset_type == "conditioning" and source is None and entry.id not in named:
            yield f"{entry.at}.id", f"{entry.id!r} is in no conditioning_data, so its pictures would never be shown"


def _edited(options: Options, entries: tuple[Entry, ...]) -> Found:
    """Pictures to edit for a model that edits none."""
    if options.model_family in PREDICTIONS and (options.model_family, options.model_flavour) not in EDITORS:
        for entry in entries:
            if entry.dataset_type == "conditioning":
                what = " ".join(filter(None, (options.model_family, options.model_flavour)))
                yield f"{entry.at}.dataset_type", f"'conditioning' is for a model that edits, and {what} does not"


def _beginnings(entries: tuple[Entry, ...], at: str) -> Found:
    images = [entry for entry in entries if entry.dataset_type == "image"]
    if images and not any(entry.start_epoch == 1 and entry.start_step <= 1 for entry in images):
        yield at, "has no data set that starts at once: start_epoch 1 and start_step 0"


def _sizes(options: Options, entry: Entry) -> Found:
    kind = wish(options, entry, "resolution_type")
    limits = {name: wish(options, entry, name) for name in _SIZES}
    for name, value in limits.items():
        if value is not None and (problem := _unlikely(kind, name, value)) is not None:
            yield _place(entry, name), problem
    least, most, target = (limits[name] for name in _SIZES[1:])
    if most is not None and target is None:
        yield (
            _place(entry, "maximum_image_size"),
            "needs target_downsample_size: what larger files are made smaller to",
        )
    if target is not None and most is None:
        yield _place(entry, "target_downsample_size"), "needs maximum_image_size: which files are made smaller"
    if target is not None and most is not None and _edge(kind, target) > _edge(kind, most):
        yield _place(entry, "target_downsample_size"), f"is {target:g}, more than maximum_image_size {most:g}"
    if least is not None and most is not None and _edge(kind, least) > _edge(kind, most):
        yield (
            _place(entry, "minimum_image_size"),
            f"is {least:g}, more than maximum_image_size {most:g}: no file is left",
        )
    edge = _edge(kind, limits["resolution"])
    likely = _unlikely(kind, "resolution", limits["resolution"]) is None
    if likely and edge < options.aspect_bucket_alignment:
        yield (
            _place(entry, "resolution"),
            f"{limits['resolution']:g} is {edge:.0f} pixels, which leaves no bucket: edges are multiples of "
            f"aspect_bucket_alignment {options.aspect_bucket_alignment}",
        )


_SIZES = ("resolution", "minimum_image_size", "maximum_image_size", "target_downsample_size")


def _unlikely(kind: str, name: str, value: float) -> str | None:
    """A size in another unit than its type has."""
    if kind == "area" and value >= _LARGEST_AREA:
        return f"is {value:g} megapixels: with resolution_type 'area' it must be under {_LARGEST_AREA}"
    if kind == "pixel" and value < _SMALLEST_EDGE:
        return f"is {value:g} pixels: with resolution_type 'pixel' it must be at least {_SMALLEST_EDGE}"
    if kind == "pixel_area" and name == "resolution" and value < _SMALLEST_EDGE:
        return f"is {value:g} pixels: megapixels need resolution_type 'area'"
    return None


def _edge(kind: str, size: float) -> float:
    """The edge of a square of such a size, in pixels."""
    return float(size) if kind == "pixel" or (kind == "pixel_area" and size > 10) else float((size * 1e6) ** 0.5)


def _captions(options: Options, entry: Entry) -> Found:
    if wish(options, entry, "instance_prompt") is not None:
        return
    if wish(options, entry, "caption_strategy") == "instanceprompt":
        yield _place(entry, "instance_prompt"), "is required with caption_strategy 'instanceprompt'"
    for name in ("prepend_instance_prompt", "only_instance_prompt"):
        if wish(options, entry, name):
            yield _place(entry, name), "needs instance_prompt"


def _place(entry: Entry, name: str) -> str:
    """Where it was said: at the entry, else at the option."""
    return name if getattr(entry, name) is None else f"{entry.at}.{name}"
