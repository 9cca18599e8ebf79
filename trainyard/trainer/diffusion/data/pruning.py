"""Buckets too small for a batch: left out, kept, or filled by more passes."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from trainyard.trainer.diffusion.data.image_set import ImageSet
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.failures import DataError

if TYPE_CHECKING:
    from schemas.diffusion import Options

Bucket = tuple[tuple[int, int], ...]


def bucket(picture: Picture) -> Bucket:
    """What the pictures of one batch have in common: their size, and that of each reference."""
    return (picture.frame.bucket, *(reference.frame.bucket for reference in picture.references))


def pruned(
    one: ImageSet, pictures: Sequence[Picture], options: "Options", notes: list[str]
) -> tuple[ImageSet, Sequence[Picture]]:
    """The set and those of its pictures that an epoch can make batches of.

    A bucket with fewer pictures (counted as often as they are repeated) than a batch is left out and noted, unless
    `disable_bucket_pruning` keeps it for a smaller batch. Where no bucket is left, `allow_dataset_oversubscription`
    raises `repeats`, unless they were given. Raises `DataError` where nothing is left.
    """
    if options.disable_bucket_pruning:
        return one, pictures
    counts = Counter(map(bucket, pictures))
    largest = max(counts.values())
    if largest * (1 + one.repeats) < one.batch_size:
        needed = -(-one.batch_size // largest) - 1
        if not options.allow_dataset_oversubscription or one.repeats:
            raise DataError(_too_few(one, counts, needed))
        notes.append(
            f"{one.at}.repeats: raised from 0 to {needed}: the largest bucket of {one.id!r} has {_counted(largest)}, "
            f"a batch {one.batch_size}"
        )
        one = evolve(one, repeats=needed)
    kept = {key for key, count in counts.items() if count * (1 + one.repeats) >= one.batch_size}
    if len(kept) < len(counts):
        lost = sum(count for key, count in counts.items() if key not in kept)
        named = ", ".join(f"{_shown(key)}: {counts[key]}" for key in counts if key not in kept)
        notes.append(
            f"{one.at}: {_counted(lost)} of {one.id!r} are left out, in buckets with fewer than a batch of "
            f"{one.batch_size} ({named}); disable_bucket_pruning keeps them in smaller batches"
        )
    return one, [picture for picture in pictures if bucket(picture) in kept]


def _too_few(one: ImageSet, counts: Counter[Bucket], needed: int) -> str:
    (key, largest), *_ = counts.most_common(1)
    return (
        f"{one.at}: {one.id!r} has no bucket that fills a batch of {one.batch_size}: the largest, {_shown(key)}, "
        f"has {_counted(largest)}{f' × {1 + one.repeats}' if one.repeats else ''}; right would be train_batch_size "
        f"{largest * (1 + one.repeats)} or less, repeats {needed} or more, disable_bucket_pruning (smaller batches) or "
        "allow_dataset_oversubscription"
    )


def _shown(key: Bucket) -> str:
    return f"{key[0][0]} × {key[0][1]}"


def _counted(pictures: int) -> str:
    return f"{pictures:,} picture{'' if pictures == 1 else 's'}"
