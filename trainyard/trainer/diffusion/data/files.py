"""Which files of a folder are pictures."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from attrs import frozen

from trainyard.trainer.diffusion.data.images import FOREIGN, SUFFIXES
from trainyard.trainer.failures import ConfigError, DataError, SourceRefused

_CHECK_EVERY = 1_000
#: What belongs to pictures, or to nobody.
_BESIDE = frozenset({".txt", ".json", ".jsonl", ".csv", ".md", ".caption", ".npz", ".safetensors", ".db", ".ini"})


@frozen
class Found:
    """The files of a folder, in the order of their names."""

    #: Paths below the folder, with `/`.
    pictures: tuple[str, ...]
    #: Pictures that can't be read whatever is in them, each with why.
    unread: Mapping[str, str]
    #: How many files of which other suffix there are.
    others: Counter[str]


def find(folder: Path, at: str, check: Callable[[], None]) -> Found:
    """All pictures below a folder; hidden files and folders are left alone, links are followed.

    `at` is the field that names the folder. Raises `ConfigError` when it is no folder, `SourceRefused` when it may not
    be read, `DataError` when it holds nothing.
    """
    if not folder.is_absolute():
        raise ConfigError(f"{at}: {folder} is not an absolute path")
    if not folder.is_dir():
        why = "is a file; the folder of the pictures would be right" if folder.exists() else "is not there"
        raise ConfigError(f"{at}: {folder} {why}")
    pictures: list[str] = []
    unread: dict[str, str] = {}
    others: Counter[str] = Counter()
    for n, name in enumerate(_walk(folder)):
        if n % _CHECK_EVERY == 0:
            check()
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in FOREIGN:
            unread[name] = _FOREIGN
        elif suffix in SUFFIXES and shown(name) != name:
            unread[name] = "has a name that is not UTF-8"
        elif suffix in SUFFIXES:
            pictures.append(name)
        elif suffix not in _BESIDE:
            others[suffix or "no suffix"] += 1
    if not pictures and not unread:
        held = ", ".join(f"{count:,} × {suffix}" for suffix, count in others.most_common(5))
        raise DataError(f"{at}: {folder} holds no picture{f' ({held})' if held else ''}; {_KINDS}")
    return Found(tuple(sorted(pictures)), unread, others)


def shown(name: str) -> str:
    """A name of a file that can be written anywhere."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


_FOREIGN = "is of a kind that can't be read in this version; JPEG, PNG or WebP would be right"
_KINDS = f"pictures end in {', '.join(sorted(SUFFIXES))}"


def _walk(folder: Path) -> Iterator[str]:
    """Every file below a folder, each folder once, whatever links there are."""
    seen = set()

    def refused(error: OSError) -> None:
        raise SourceRefused(f"{error.filename}: may not be read by the user that runs the job") from error

    for root, folders, files in os.walk(folder, followlinks=True, onerror=refused):
        known = Path(root).stat()
        if (known.st_dev, known.st_ino) in seen:
            folders.clear()
            continue
        seen.add((known.st_dev, known.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        below = Path(root).relative_to(folder)
        yield from ((below / name).as_posix() for name in files if not name.startswith("."))
