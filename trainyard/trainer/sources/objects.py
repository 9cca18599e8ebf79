"""`s3://`, `gs://`, `az://`: an object, or all objects below a prefix."""

import re
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

from common.access import Auth
from common.objects import (
    Bucket,
    ObjectChanged,
    ObjectError,
    ObjectMissing,
    ObjectRefused,
    ObjectUnreachable,
    Stored,
    split,
)
from trainyard.trainer.failures import RunEnded, SourceRefused
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.offer import Changed, Item, Lost, Offer, is_plain

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


def offered(uri: str, auth: Auth, limits: Limits, at: str, missing: type[RunEnded]) -> Offer:
    """The object of that key, else everything below it. Raises `missing`, `SourceRefused`, `Lost`."""
    _, _, key = split(uri)
    try:
        bucket = Bucket(uri, auth)
        one = None if key.endswith("/") or not key else _head(bucket, key)
        if one is not None:
            offer = Offer(uri=uri, items=(_item(bucket, one, PurePosixPath(key).name),))
        else:
            offer = _folder(uri, bucket, key)
    except ObjectError as e:
        raise meaning(e, at, missing) from e
    names = {item.name for item in offer.items}
    for name in names:
        if not is_plain(name) or any(str(above) in names for above in PurePosixPath(name).parents):
            raise missing(f"{at}: {uri} holds {name!r}, which can't be a file beside the others")
    if offer.size is not None and offer.size > limits.most_bytes:
        raise SourceRefused(
            f"{at}: {uri} has {offer.size:,} bytes; at most {limits.most_bytes:,} are downloaded "
            "(TRAINYARD_MAX_DOWNLOAD_BYTES)"
        )
    return offer


def meaning(error: ObjectError, at: str, missing: type[RunEnded]) -> Exception:
    """What a failure of an object store means for a run, or for a download."""
    if isinstance(error, ObjectMissing):
        return missing(f"{at}: {error}")
    if isinstance(error, ObjectRefused):
        return SourceRefused(f"{at}: {error}")
    return Changed(str(error)) if isinstance(error, ObjectChanged) else Lost(str(error))


def _folder(uri: str, bucket: Bucket, key: str) -> Offer:
    prefix = key.rstrip("/") + "/" if key else ""
    found = sorted((s for s in bucket.list(prefix) if s.size or not s.key.endswith("/")), key=lambda s: s.key)
    if not found:
        raise ObjectMissing(f"{uri}: there is neither an object of this name nor one below it")
    return Offer(uri=uri, items=tuple(_item(bucket, s, s.key.removeprefix(prefix)) for s in found), folder=True)


def _head(bucket: Bucket, key: str) -> Stored | None:
    try:
        return bucket.head(key)
    except ObjectMissing:
        return None


def _item(bucket: Bucket, stored: Stored, name: str) -> Item:
    md5 = _MD5.fullmatch(stored.version or "")
    return Item(
        name=name,
        size=stored.size,
        version=stored.version,
        read=reader(bucket, stored),
        digest=("md5", md5[1]) if md5 else None,
        sure=False,
    )


def reader(bucket: Bucket, stored: Stored) -> Callable[[int], Iterator[bytes]]:
    """Reads an object of this version. Raises `Changed`, `Lost`, `ObjectRefused`."""

    def read(offset: int) -> Iterator[bytes]:
        try:
            yield from bucket.read(stored.key, offset, stored.version)
        except ObjectRefused:
            raise
        except ObjectMissing as e:
            raise Changed(str(e)) from e
        except (ObjectChanged, ObjectUnreachable) as e:
            raise meaning(e, "", RunEnded) from e

    return read
