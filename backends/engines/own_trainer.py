"""A program of the caller's own in the trainer's place: what its command line must be."""

from collections.abc import Iterator

from backends.engines.machine import Machine
from schemas.train import TrainRequest
from schemas.uri import mask_urls

Found = Iterator[tuple[str, str]]

NOT_ALLOWED = "a trainer of your own is not allowed here: TRAINYARD_ALLOW_COMMAND is false"
_LONGEST_BYTES = 64 << 10
_AT = "extra_parameters.command"


def command_errors(request: TrainRequest, _machine: Machine) -> Found:
    """What no system would start, and what must not stand on a command line; the program itself is looked up last."""
    command = request.extra_parameters.command or ()
    if command and not command[0].strip():
        yield f"{_AT}[0]", "must be a program's name or path, got an empty string"
    if (size := sum(len(part.encode()) + 1 for part in command)) > _LONGEST_BYTES:
        yield _AT, f"has {size} bytes, and a command line may have {_LONGEST_BYTES}; a file would do, or env"
    for n, part in enumerate(command):
        if mask_urls(part) != part:
            yield (
                f"{_AT}[{n}]",
                "has a URL with a password or query, and everybody on the machine sees a command line; "
                "extra_parameters.env would keep it secret",
            )
