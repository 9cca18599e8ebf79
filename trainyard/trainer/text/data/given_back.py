"""Memory that Python has freed given back to the system, which glibc does by itself only at the end of its heap."""

import ctypes
from functools import cache
from typing import Any


def give_back() -> None:
    """Takes some milliseconds; nothing happens where the C library is another."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
