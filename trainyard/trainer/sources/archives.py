"""A model in one file: what kind of file it is, and unpacking it without trusting it."""

import json
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Literal

from trainyard.trainer.failures import ModelError

Kind = Literal["safetensors", "tar", "zip"]

_LARGEST_HEADER = 100 << 20
_BLOCK = 1 << 20
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
    if tarfile.is_tarfile(file):
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


def unpack(file: Path, kind: Kind, folder: Path, most: int, at: str, go_on: Callable[[], None]) -> None:
    """Every plain file of an archive, below `folder` and nowhere else. Raises `ModelError`."""
    try:
        if kind == "tar":
            _unpack_tar(file, folder, most, at, go_on)
        else:
            _unpack_zip(file, folder, most, at, go_on)
    except _DAMAGED as e:
        raise ModelError(f"{at}: {file.name} can't be unpacked: {type(e).__name__}: {e}") from e


def _unpack_tar(file: Path, folder: Path, most: int, at: str, go_on: Callable[[], None]) -> None:
    written = 0
    with tarfile.open(file) as archive:
        for member in archive:
            go_on()
            written = _within(written + member.size, most, at, file)
            archive.extract(member, folder, filter="data")  # refuses what would lie elsewhere, links and devices


def _unpack_zip(file: Path, folder: Path, most: int, at: str, go_on: Callable[[], None]) -> None:
    written = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            go_on()
            name = PurePosixPath(member.filename)
            if name.is_absolute() or ".." in name.parts or stat.S_ISLNK(member.external_attr >> 16):
                raise ModelError(f"{at}: {file.name} has an entry {member.filename!r} that does not lie inside it")
            written = _within(written + member.file_size, most, at, file)
            if member.is_dir():
                continue
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, target.open("wb") as plain:
                while block := packed.read(_BLOCK):
                    go_on()
                    plain.write(block)


def _within(size: int, most: int, at: str, file: Path) -> int:
    if size > most:
        raise ModelError(
            f"{at}: {file.name} would unpack to more than {most:,} bytes (TRAINYARD_MAX_DOWNLOAD_BYTES, free disk)"
        )
    return size


def root(folder: Path) -> Path:
    """The folder that holds the files, where an archive has one folder around them."""
    inside = list(folder.iterdir())
    return root(inside[0]) if len(inside) == 1 and inside[0].is_dir() else folder


def link_all(folder: Path, into: Path, but: Callable[[str], bool] = lambda _: False) -> None:
    """Make every file of a folder appear in another one."""
    for path in folder.iterdir():
        if path.is_file() and not but(path.name):
            link(path, into / path.name)


def link(path: Path, target: Path) -> None:
    """Make a file appear under another name."""
    target.unlink(missing_ok=True)
    target.symlink_to(path.resolve())


def room(folder: Path) -> int:
    """Bytes that may be written to a folder's disk."""
    return shutil.disk_usage(folder).free
