"""Tensors with a shape and no content, which torch calls fake."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger("torch._subclasses.fake_tensor")


@contextmanager
def quiet() -> Iterator[None]:
    """torch prints the traceback of an operation without a shape rule before it raises."""
    before, _log.disabled = _log.disabled, True
    try:
        yield
    finally:
        _log.disabled = before
