"""What a source offers: files with sizes, versions and a way to read them; and the ways in which reading fails."""

import hashlib
import uuid
from collections.abc import Callable, Iterator

from attrs import field, frozen

#: Bytes of a file's name, with what it is called while it is under way.
_LONGEST = 230


class Lost(Exception):
    """The connection was lost or the server failed; going on from where it was may help."""


class Changed(Exception):
    """The source is not what it was when it was looked at."""


class Broken(Exception):
    """What came is not what the source said it would send."""


@frozen(kw_only=True)
class Item:
    """One file. `read(offset)` yields its bytes from there on; it raises `Lost`, `Changed` or what ends the run."""

    name: str
    size: int | None
    #: What changes with the content: an ETag, or a time; None where the source has none.
    version: str | None
    read: Callable[[int], Iterator[bytes]]
    #: Algorithm and hexadecimal digest of the whole file, where the source tells one.
    digest: tuple[str, str] | None = None
    #: Whether `digest` can be nothing else: the ETag of an object is its MD5, unless it is encrypted by a key.
    sure: bool = True


def is_plain(name: str) -> bool:
    """Whether a name, or a path of names, stays below the folder that it is put into."""
    parts = name.split("/")
    return all(part not in ("", ".", "..") and "\0" not in part and len(part.encode()) < _LONGEST for part in parts)


@frozen(kw_only=True)
class Offer:
    """A file, or a folder of files. `uri` has neither query nor credentials."""

    uri: str
    items: tuple[Item, ...]
    folder: bool = False
    #: What else tells the source from another of that address; it may hold a secret.
    query: str = field(default="", repr=False)
    #: Where the source tells no version, nothing that was kept can be trusted to be the same.
    key: str = field(init=False)

    @key.default
    def _key(self) -> str:
        told = [self.uri, *(f"{i.name}\0{i.size}\0{i.version}" for i in self.items)]
        if self.query:
            told.append(self.query)
        if any(item.version is None for item in self.items):
            told.append(uuid.uuid4().hex)
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:32]

    @property
    def size(self) -> int | None:
        """Bytes of all files; None when one is not known."""
        sizes = [item.size for item in self.items]
        return None if None in sizes else sum(size for size in sizes if size is not None)
