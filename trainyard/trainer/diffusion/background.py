"""Processes beside the training: their environment, their time, their end."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from attrs import define

from schemas.masking import looks_secret
from trainyard.trainer.run import Run
from trainyard.trainer.secrets import Secrets

_TERM_SECONDS = 5.0
_LOOK_SECONDS = 0.1
#: A shorter secret may stand in a value by chance.
_SURE_CHARACTERS = 8
_OURS = frozenset({"TRAINYARD_RUN", "TRAINYARD_JOB_ID"})
_LAUNCHERS = ("RANK", "LOCAL_", "WORLD_SIZE", "GROUP_", "ROLE_", "MASTER_", "TORCHELASTIC_", "ACCELERATE_")


@define
class Child:
    """One process, in a session of its own, under the option that named it."""

    option: str
    process: subprocess.Popen[bytes]
    began: float
    limit_seconds: float
    #: Why we ended it, where we did.
    ended: str | None = None

    @classmethod
    def started(cls, option: str, arguments: list[str], run: Run, limit_seconds: float) -> "Child":
        """Without a shell, in the output folder, with nothing to read. Raises `OSError`, `ValueError`."""
        output = run.spec.output  # of a remote one it is gone at the end
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            cwd=output if output.is_dir() else run.claim.folder.path,
            env=environment(run.secrets, os.environ),
            start_new_session=True,
        )
        return cls(option, process, time.monotonic(), limit_seconds)

    @property
    def code(self) -> int | None:
        """The exit status; negative: the signal that ended it."""
        return self.process.poll()

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return time.monotonic() - self.began > self.limit_seconds

    def ask_to_end(self, why: str) -> None:
        """SIGTERM to it and what it started, where it has not ended."""
        if self.code is None:
            self.ended = why
            self._signal(signal.SIGTERM)

    def end(self, until: float) -> None:
        """SIGKILL when it has had this long, by `time.monotonic`; returns when it is gone."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, until - time.monotonic()))
        self._signal(signal.SIGKILL)  # what it started and left behind too
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Background:
    """The processes that a run has beside it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._children: list[Child] = []

    def add(self, child: Child) -> None:
        """One more."""
        self._children.append(child)

    def look(self) -> None:
        """Tell those that ended, and end those over their time."""
        late = [child for child in self._children if child.code is None and child.late]
        _end(late, "took more than {0.limit_seconds:g} s and was ended")
        for child in list(self._children):
            if child.code is not None:
                self._children.remove(child)
                self._tell(child)

    def wait(self, child: Child) -> None:
        """Until it ended, was late, or a stop came: then it is ended and `Stopped` raised."""
        while child.code is None and not child.late:
            self._run.control.poll()
            if self._run.control.stop is not None:
                _end([child], "was ended, as the run stops")
                break
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(_LOOK_SECONDS)
        self.look()
        self._run.control.check()

    def close(self, grace_seconds: float) -> None:
        """Wait so long for all of them, unless a stop comes; end the others."""
        until = time.monotonic() + grace_seconds
        self.look()
        while self._children and time.monotonic() < until and self._run.control.stop is None:
            time.sleep(_LOOK_SECONDS)
            self._run.control.poll()
            self.look()
        _end(self._children, "was ended, as the run is over")
        self.look()

    def _tell(self, child: Child) -> None:
        """How it ended: an event, a warning where that is not well. It never ends the training."""
        seconds = round(time.monotonic() - child.began, 1)
        more: dict[str, Any] = {"script": child.option, "exit_code": child.code, "seconds": seconds}
        if child.ended is not None:
            self._run.report.log(f"{child.option} {child.ended}", level="warning", **more)
        elif child.code:
            how = f"by signal {-child.code}" if child.code < 0 else f"with {child.code}"
            self._run.report.log(f"{child.option} ended {how}; the job's log has its output", level="warning", **more)
        else:
            self._run.report.log(f"{child.option} ended well", **more)


def _end(children: Sequence[Child], why: str) -> None:
    """All of them at once, so that the time that each has to come to its end is the same; `why` may name its child."""
    for child in children:
        child.ask_to_end(why.format(child))
    until = time.monotonic() + _TERM_SECONDS
    for child in children:
        child.end(until)


def environment(secrets: Secrets, environ: Mapping[str, str]) -> dict[str, str]:
    """What a script gets: no secret of the job or by the look of its name, nothing of torch's launcher.

    `TRAINYARD_RUN` stays: by it the guard finds what outlives the run.
    """
    return {name: value for name, value in environ.items() if not (_internal(name) or _secret(name, value, secrets))}


def _internal(name: str) -> bool:
    if name.startswith("TRAINYARD_"):
        return name not in _OURS
    return name.startswith(_LAUNCHERS)


def _secret(name: str, value: str, secrets: Secrets) -> bool:
    held = (hidden == value or (len(hidden) >= _SURE_CHARACTERS and hidden in value) for hidden in secrets.hidden)
    return looks_secret(name) or any(held)
