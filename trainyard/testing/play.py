"""What a run of the conformance suite is to do, and the command line of the tiny trainer that does it."""

import sys
from pathlib import Path

from attrs import frozen

_PROGRAM = Path(__file__).with_name("program.py")


@frozen(kw_only=True)
class Play:
    """A run: `steps` steps in `seconds` seconds, each told, then its end.

    It ends with exit status `code`, or dies of `signal`. On SIGTERM it tells a checkpoint and leaves with 75, unless it
    is `deaf`. With `child` it leaves a process in a session of its own behind; with `secrets` it prints every secret
    that it is given; with `post` it sends its events to `TRAINYARD_EVENTS_URL` in place of writing them. It answers the
    commands `checkpoint`, `validate`, `change` and `stop`, and shows its stacks on SIGUSR2.
    """

    steps: int = 4
    seconds: float = 0.2
    code: int = 0
    signal: int = 0
    deaf: bool = False
    child: bool = False
    secrets: bool = False
    post: bool = False

    def command(self) -> list[str]:
        """The command line of the tiny trainer that plays it; for `extra_parameters.command`."""
        numbers = {"steps": self.steps, "seconds": self.seconds, "code": self.code, "signal": self.signal}
        told = [part for name, value in numbers.items() for part in (f"--{name}", str(value))]
        flags = [f"--{name}" for name in ("deaf", "child", "secrets", "post") if getattr(self, name)]
        return [sys.executable, "-I", "-S", str(_PROGRAM), *told, *flags]
