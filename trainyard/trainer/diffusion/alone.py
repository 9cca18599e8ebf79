"""One process of several at a time, by a lock on a file that all of them see."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from trainyard.trainer.failures import ConfigError

_LOCK_SECONDS = 0.2


@contextmanager
def alone(lock: Path | None, check: Callable[[], None]) -> Iterator[None]:
    """While nobody else holds the file `lock`, whose folder is made; None: at once. `check` is called while it waits.

    Raises `ConfigError` where the cache may not be written to, and what `check` raises.
    """
    if lock is None:
        yield
        return
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError as e:
        raise ConfigError(f"extra_parameters.cache_dir: {lock.parent} may not be written to") from e
    try:
        while not _locked(held):
            check()
            time.sleep(_LOCK_SECONDS)
        yield
    finally:
        os.close(held)


def _locked(lock: int) -> bool:
    """Whether it is ours now; where a file system has no locks, everybody may read."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as e:
        if e.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    return True
