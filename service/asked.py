"""What a backend answers, looked at where it comes in: somebody else may have written it, and a fault has its name."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog

from common.backend import BaseTrainerBackend, Capacity, Handle, JobSpec
from common.errors import BackendFault, TrainyardError
from schemas.train import TrainRequest
from schemas.values import FieldError

log = structlog.get_logger(__name__)

T = TypeVar("T")


def errors_of(backend: BaseTrainerBackend, request: TrainRequest) -> list[FieldError]:
    """What is wrong with a request here. Raises `BackendFault`, and `OSError` where a path can't be looked at."""
    with _named(backend, "validate_request", OSError):
        found: object = backend.validate_request(request)
        listed: list[object] = returned(list, found, "validate_request")
        return [returned(FieldError, error, "validate_request", "list of FieldError") for error in listed]


def spec_of(backend: BaseTrainerBackend, request: TrainRequest) -> JobSpec:
    """The spec of a valid request. Raises `BackendFault`."""
    with _named(backend, "build_job_spec"):
        return returned(JobSpec, backend.build_job_spec(request), "build_job_spec")


async def capacity_of(backend: BaseTrainerBackend) -> Capacity:
    """What a backend has. Raises `TypeError` where that is no `Capacity`, and whatever the backend raises."""
    return returned(Capacity, await backend.capacity(), "capacity")


def found_by(value: object) -> Handle | None:
    """What `find` returned. Raises `TypeError` where it is neither a handle nor None."""
    return None if value is None else returned(Handle, value, "find")


def returned(kind: type[T], value: object, method: str, noun: str | None = None) -> T:
    """What a method returned. Raises `TypeError` where it is something else than the interface says (`noun`)."""
    if isinstance(value, kind):
        return value
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(f"{method}() must be a plain method, not an async one")
    raise TypeError(f"{method}() must return a {noun or kind.__name__}, got {type(value).__name__}")


@contextmanager
def _named(backend: BaseTrainerBackend, method: str, *passed: type[Exception]) -> Iterator[None]:
    """What is raised inside, but for the `passed`, is told as this backend's fault; the log has its traceback."""
    try:
        yield
    except Exception as e:  # a backend may raise anything
        if isinstance(e, (TrainyardError, *passed)):
            raise
        log.exception("a backend failed", backend=backend.name, method=method, reason=f"{type(e).__name__}: {e}")
        said = f"backend {backend.name!r} failed in {method}() ({type(e).__name__}); the service's log has it in full"
        raise BackendFault(said) from e
