"""Everything that can be said to a caller: one root, a class a thing that one may catch, no word of HTTP."""

from collections.abc import Sequence
from typing import ClassVar

from schemas.values import FieldError


class TrainyardError(Exception):
    """Something went wrong inside Trainyard; the log has the details."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip()
        super().__init__(self.message)


class InvalidRequest(TrainyardError):
    """The document is not valid; `errors` names every field that is wrong."""

    code = "invalid_request"

    def __init__(self, errors: Sequence[FieldError], message: str | None = None) -> None:
        super().__init__(message or f"{errors[0].path}: {errors[0].message}")
        self.errors = tuple(errors)


class InvalidJSON(InvalidRequest):
    """The body is not JSON."""

    code = "invalid_json"


class UnsupportedMediaType(TrainyardError):
    """The body must be sent with `Content-Type: application/json`."""

    code = "invalid_request"


class UnknownBackend(InvalidRequest):
    """No backend of that name is registered."""

    code = "unknown_backend"


class NotFound(TrainyardError):
    """There is nothing under this name."""

    code = "not_found"


class Conflict(TrainyardError):
    """The request does not fit the present state."""

    code = "conflict"


class Over(Conflict):
    """The run is over: nothing of it is taken any more, and it must stop."""


class NotSupported(Conflict):
    """The backend has no such capability."""

    code = "not_supported"


class TooLarge(TrainyardError):
    """The body is over the limit."""

    code = "too_large"


class Unavailable(TrainyardError):
    """The service can't take this at the moment; try again."""

    code = "unavailable"

    def __init__(self, message: str | None = None, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(Unavailable):
    """Too often; try again later."""

    code = "rate_limited"


class StorageFull(TrainyardError):
    """There is too little free disk to take a new job."""

    code = "storage_full"


class Unauthorized(TrainyardError):
    """A credential is needed."""

    code = "unauthorized"


class Forbidden(TrainyardError):
    """The caller may not do this."""

    code = "forbidden"


class NotOpenYet(Forbidden):
    """The service serves only this machine until a token is set."""

    code = "not_open_yet"


class BackendUnavailable(TrainyardError):
    """The backend can't be reached; the job waits and is tried again."""

    code = "unavailable"


class BackendFull(BackendUnavailable):
    """The backend is well and takes no more jobs now: they wait for as long as that lasts."""


class BackendRefused(TrainyardError):
    """The backend will never take the job: it fails, with the message."""


class BackendFault(TrainyardError):
    """A backend did what its interface does not allow."""


class IllegalMove(TrainyardError):
    """The state table does not have this move."""


class StaleEvent(IllegalMove):
    """The event is of an older attempt, or came after the end."""


class SettingError(TrainyardError):
    """A setting has a value that can't be used."""


class StartError(TrainyardError):
    """The service can't start; the message says why and what to do."""
