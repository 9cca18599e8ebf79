"""A model in one file: what kind of file it is, and unpacking it without trusting it."""

import bz2
import gzip
import json
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, cast

from trainyard.trainer.failures import ModelError
from trainyard.trainer.sources.cache import Cache
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.watched import Progress, watched

Kind = Literal["safetensors", "tar", "zip"]

_LARGEST_HEADER = 100 << 20
_BLOCK = 1 << 20
_MOST_AT_ONCE = 16 << 20
_MOST_ENTRIES = 100_000
#: Bytes; file systems take 255 for one name, Linux 4,096 for a path with the folder before it.
_LONGEST_PART, _LONGEST_NAME = 255, 2_000
_SHOWN = 200
_PACKED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
#: Of a zip also: encrypted, and packed in a way that this Python does not know.
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


def kind_of(file: Path, at: str) -> Kind:
    """What a file of weights is, by its content. Raises `ModelError` for anything else, and for half a file."""
    if (problem := safetensors_problem(file)) is None:
        return "safetensors"
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/data.pkl") for name in archive.namelist()):
                raise ModelError(f"{at}: {file.name} is a pickle, which is never loaded; give a .safetensors file")
        return "zip"
    if _is_tar(file):
        return "tar"
    raise ModelError(
        f"{at}: {file.name} is no .safetensors file ({problem}) and no .tar, .tar.gz or .zip of a model's folder"
    )


def safetensors_problem(file: Path) -> str | None:
    """Why a file can't be read as safetensors; None where header and size agree."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if size < 10 or length > min(size - 8, _LARGEST_HEADER):
            return "its first eight bytes are not the length of a header"
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return "its header is not JSON of tensors"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"it has {size:,} bytes, its header tells of {expected:,}: it is truncated"


def unpacked(
    file: Path,
    kind: Kind,
    at: str,
    *,
    cache: Path,
    check: Callable[[], None],
    say: Callable[[str], None],
    limits: Limits = Limits(),
    entries: int | None = None,
) -> Path:
    """The folder in an archive, unpacked once for all jobs. As `unpack`; raises what `check` raises too."""
    most = min(limits.most_bytes, _room(file.parent))

    def work(progress: Progress) -> Path:
        def fill(folder: Path) -> None:
            unpack(file, kind, folder, most, at, progress.go_on, entries=entries)

        return _root(Cache(cache).made(file, fill, progress))

    return watched(work, f"unpacking {file.name}", check, say)


def unpack(
    file: Path,
    kind: Kind,
    folder: Path,
    most: int,
    at: str,
    go_on: Callable[[], None],
    *,
    entries: int | None = None,
) -> None:
    """Every plain file of an archive, below `folder` and nowhere else. Raises `ModelError`.

    `most` bytes may come of it, and so many `entries`; None: as many as a model may have.
    """
    target = _Target(file, folder, most, at, go_on, entries or _MOST_ENTRIES)
    try:
        if kind == "tar":
            _unpack_tar(file, target)
        else:
            _unpack_zip(file, target)
    except _DAMAGED as e:
        raise ModelError(f"{at}: {file.name} can't be unpacked: {type(e).__name__}: {e}") from e


def _unpack_tar(file: Path, target: "_Target") -> None:
    """Nothing of the library's own unpacking is used: its filters were got round before."""
    with _tar(file) as archive:
        for member in archive:
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise target.refused(member.name, "is neither a plain file nor a folder")
            if member.isdir():
                target.make(member.name)
            elif (packed := archive.extractfile(member)) is not None:
                target.write(member.name, member.size, packed)


def _unpack_zip(file: Path, target: "_Target") -> None:
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refused(member.filename, "is neither a plain file nor a folder")
            if member.is_dir():
                target.make(member.filename)
            else:
                with archive.open(member) as packed:
                    target.write(member.filename, member.file_size, packed)


class _Target:
    """The folder that an archive is unpacked into: entries are judged by us, and written as new files."""

    def __init__(self, file: Path, folder: Path, most: int, at: str, go_on: Callable[[], None], entries: int) -> None:
        self._file, self._folder, self._most, self._at, self._go_on = file, folder, most, at, go_on
        self._most_entries = entries
        self._entries = self._written = 0

    def make(self, name: str) -> None:
        """A folder. Raises `ModelError`."""
        self._made(self._path(name), name)

    def write(self, name: str, size: int, packed: IO[bytes]) -> None:
        """A file of so many bytes, and not one more. Raises `ModelError`."""
        path = self._path(name)
        self._written += size
        if self._written > self._most:
            raise ModelError(
                f"{self._at}: {self._file.name} would unpack to more than {self._most:,} bytes "
                "(TRAINYARD_MAX_DOWNLOAD_BYTES, free disk)"
            )
        self._made(path.parent, name)
        try:
            plain = path.open("xb")
        except FileExistsError as e:
            raise self.refused(name, "is there twice") from e
        left = size
        with plain:
            while block := packed.read(_BLOCK):
                self._go_on()
                left -= len(block)
                if left < 0:
                    break
                plain.write(block)
        if left:
            raise self.refused(name, f"is not of the {size:,} bytes that it tells of")

    def refused(self, name: str, why: str) -> ModelError:
        """What to raise for an entry."""
        return ModelError(f"{self._at}: {self._file.name} has an entry {name[:_SHOWN]!r} that {why}")

    def _path(self, name: str) -> Path:
        """Where an entry goes: below the folder, by a name that is nothing but names."""
        self._go_on()
        self._entries += 1
        if self._entries > self._most_entries:
            raise ModelError(f"{self._at}: {self._file.name} has more than {self._most_entries:,} entries")
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name or "\0" in name:
            raise self.refused(name, "does not lie inside it")
        if len(os.fsencode(name)) > _LONGEST_NAME or any(len(os.fsencode(part)) > _LONGEST_PART for part in parts):
            raise self.refused(name, "has a name that is too long")
        return self._folder.joinpath(*parts)

    def _made(self, folder: Path, name: str) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as e:
            raise self.refused(name, "lies in what is a file") from e


@contextmanager
def _tar(file: Path) -> Iterator[tarfile.TarFile]:
    with (
        file.open("rb") as raw,
        _plain(raw) as stream,
        tarfile.open(fileobj=cast(IO[bytes], _Sparing(stream)), mode="r:") as archive,
    ):
        yield archive


def _is_tar(file: Path) -> bool:
    try:
        with _tar(file):
            return True
    except (*_DAMAGED, OSError):
        return False


class _Sparing:
    """A stream that reads little at once: a header may claim to be of any length."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_AT_ONCE:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._stream.read(size)


def _plain(raw: IO[bytes]) -> IO[bytes]:
    """What is packed in a stream, by its first bytes; itself where it is not packed."""
    start = raw.read(6)
    raw.seek(0)
    for mark, opened in _PACKED.items():
        if start.startswith(mark):
            return opened(raw)
    return raw


def _root(folder: Path) -> Path:
    """The folder that holds the files, where an archive has one folder around them."""
    inside = list(folder.iterdir())
    return _root(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder


def link_all(folder: Path, into: Path, but: Callable[[str], bool] = lambda _: False) -> None:
    """Make every file of a folder appear in another one."""
    for path in folder.iterdir():
        if path.is_file() and not but(path.name):
            link(path, into / path.name)


def link(path: Path, target: Path) -> None:
    """Make a file appear under another name."""
    target.unlink(missing_ok=True)
    target.symlink_to(path.resolve())


def _room(folder: Path) -> int:
    """Bytes that may be written to a folder's disk."""
    return shutil.disk_usage(folder).free
