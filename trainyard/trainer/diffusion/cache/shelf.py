"""Tensors in files, each named by a digest of what it was made of: for every job that is given the same folder.

    <folder>/<kind>-<digest of the key>/   about.json   the key in words: what else the tensors depend on
                                           locks        one byte of it is locked while a tensor is being made
                                           aside/       files under way
                                           ab/cd/abcd….safetensors

A file stands whole or not at all: it is written aside and renamed. Its header has a sum of its tensors, so what a disk
or a power cut damaged is noticed when it is read. Nothing is ever changed, and nothing is removed but by `prune`.
"""

import errno
import fcntl
import hashlib
import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from attrs import field, frozen
from safetensors import SafetensorError
from safetensors.torch import load, save

from common.folder import FORMAT, write_whole
from trainyard.trainer.failures import ConfigError, DiskFull

Tensors = Mapping[str, torch.Tensor]

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LOCKS = frozenset({errno.ENOLCK, errno.EOPNOTSUPP})
_LONGEST_HEADER = 1 << 20
#: A file's time says when it was last wanted, to within this.
_USED_SECONDS = 12 * 3600.0
_SUM = "sum"


class Damaged(Exception):
    """A file is there that is not what was written."""


@frozen
class Shelf:
    """The tensors of one kind (`latents`, `texts`) under one key."""

    root: Path
    kind: str
    key: str
    folder: Path = field(init=False)

    @folder.default
    def _folder(self) -> Path:
        return self.root / f"{self.kind}-{digest(self.key)[:24]}"

    def path(self, name: str) -> Path:
        """Where the tensors of a digest lie; 65,536 folders, so that millions of files burden none."""
        return self.folder / name[:2] / name[2:4] / f"{name}.safetensors"

    def notes(self, name: str) -> Mapping[str, str] | None:
        """What was noted beside the tensors, or None where there is no file of the right size.

        The sum is looked at by `read`, not here: this is asked of every file before a training begins.
        """
        path = self.path(name)
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                length = int.from_bytes(file.read(8), "little")
                if not 2 <= length <= _LONGEST_HEADER:
                    return None
                header = json.loads(file.read(length))
            notes: dict[str, str] = header.pop("__metadata__")
            if found.st_size != 8 + length + max((about["data_offsets"][1] for about in header.values()), default=0):
                return None
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        if time.time() - found.st_mtime > _USED_SECONDS:
            with suppress(OSError):  # somebody else's file may be read but not touched
                os.utime(path)
        return notes

    def read(self, name: str) -> dict[str, torch.Tensor]:
        """Raises `FileNotFoundError`, and `Damaged` for what is not what was written."""
        path = self.path(name)
        data = path.read_bytes()
        try:
            length = int.from_bytes(data[:8], "little")
            told = json.loads(data[8 : 8 + length])["__metadata__"][_SUM]
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as e:
            raise Damaged(f"{path} is no whole safetensors file") from e
        if told != _sum(tensors):
            raise Damaged(f"{path} has other contents than were written")
        return tensors

    def write(self, name: str, tensors: Tensors, notes: Mapping[str, str] = {}) -> None:
        """Write aside, then rename. Raises `DiskFull` naming the folder; then nothing of it is left."""
        plain = {key: tensor.detach().to("cpu").contiguous() for key, tensor in tensors.items()}
        data = save(plain, {**notes, _SUM: _sum(plain)})
        path, aside = self.path(name), self._aside(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(data)
            aside.rename(path)
        except OSError as e:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            if e.errno in _FULL:
                raise DiskFull(
                    f"no disk space: {self.root}: a file of {len(data):,} bytes could not be kept there "
                    f"({e.strerror}); what was kept before is whole"
                ) from e
            raise

    def remove(self, name: str) -> None:
        """Take one away, as when it is damaged."""
        self.path(name).unlink(missing_ok=True)

    @contextmanager
    def making(self) -> Iterator["Claims"]:
        """While this is open, tensors can be claimed to be made here. Raises `DiskFull`."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / "about.json").exists():
                about = {"format": FORMAT, "kind": self.kind, "key": self.key}
                write_whole(self.folder / "about.json", json.dumps(about, indent=1).encode())
            lock = os.open(self.folder / "locks", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as e:
            if e.errno in _FULL:
                raise DiskFull(f"no disk space: {self.root}: {e.strerror}") from e
            raise ConfigError(f"the cache {self.root} can't be written: {e.strerror}") from e
        claims = Claims(lock, self.folder)
        try:
            self._clear(claims)
            yield claims
        finally:
            os.close(lock)

    def _aside(self, name: str) -> Path:
        return self.folder / "aside" / f"{name}.{os.getpid()}.{threading.get_ident()}"

    def _clear(self, claims: "Claims") -> None:
        """Remove what killed processes left aside; what is under way is locked."""
        with suppress(FileNotFoundError):
            for path in list((self.folder / "aside").iterdir()):
                name = path.name.partition(".")[0]
                if claims.take(name):
                    path.unlink(missing_ok=True)
                    claims.leave(name)


@frozen
class Claims:
    """The right to make tensors, one byte of a lock file each: processes share the work, a killed one gives back."""

    lock: int
    folder: Path

    def take(self, name: str) -> bool:
        """Whether it is ours to make now; false while another process makes it."""
        try:
            fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(name))
        except OSError as e:
            if e.errno in (errno.EACCES, errno.EAGAIN):
                return False
            if e.errno in _NO_LOCKS:
                raise ConfigError(f"the file system of the cache {self.folder} has no locks: {e.strerror}") from e
            raise
        return True

    def leave(self, name: str) -> None:
        """It is made, or given up."""
        with suppress(OSError):
            fcntl.lockf(self.lock, fcntl.LOCK_UN, 1, _place(name))


def digest(text: str) -> str:
    """The sha256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _place(name: str) -> int:
    """Which byte; two names may fall on one in some 10^9 files, and then wait for each other."""
    return int(name[:15], 16)


def _sum(tensors: Tensors) -> str:
    """A CRC-32 over names, types, shapes and bytes."""
    found = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy(), found)
    return f"{found:08x}"
