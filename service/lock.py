"""The data directory: one service at a time, on a local file system, readable by its owner alone."""

import ctypes
import ctypes.util
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import StartError

#: `f_type` of statfs(2): file systems on which SQLite's locks and shared memory can't be trusted.
NETWORK_FILE_SYSTEMS = {
    0x6969: "NFS",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x517B: "SMB",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
    0x65735546: "FUSE",
}


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Make the data directory if need be and hold its lock. Raises `StartError`."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise StartError(f"the data directory {folder} can't be made: {e.strerror}") from e
    if (kind := network_file_system(folder)) is not None:
        raise StartError(
            f"the data directory {folder} lies on {kind}; the database needs a local file system "
            "(job folders may lie on a shared one: TRAINYARD_JOBS_DIR)"
        )
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as e:
        raise StartError(f"the data directory {folder} can't be written: {e.strerror}") from e
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            owner = os.read(descriptor, 64).decode(errors="replace").strip() or "unknown"
            raise StartError(
                f"another Trainyard (process {owner}) uses the data directory {folder}; "
                "stop it or choose another --data-dir"
            ) from e
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def network_file_system(folder: Path) -> str | None:
    """The name of the network file system that a folder lies on, or None."""
    return NETWORK_FILE_SYSTEMS.get(_file_system_type(folder))


def _file_system_type(folder: Path) -> int:
    libc = ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6", use_errno=True)
    buffer = ctypes.create_string_buffer(256)
    if libc.statfs(os.fsencode(folder), buffer) != 0:
        raise StartError(f"the data directory {folder} can't be looked at: {os.strerror(ctypes.get_errno())}")
    kind: int = struct.unpack_from("l", buffer)[0] & 0xFFFFFFFF
    return kind
