"""What others want of a run: signals, and the lines of `control.jsonl` for its own attempt."""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from attrs import frozen

from common.exits import Exit
from common.folder import Pair
from trainyard.trainer.failures import StopNow, Stopped
from trainyard.trainer.reporting import Reporter

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_SECOND_TERM_AFTER = 5.0
_PEEK_SECONDS = 1.0
_NO_VALUES = "it has no values"
_NO_VALIDATION = "this engine has no validation on demand"


@frozen
class Change:
    """Values, by their path in the document, that are to hold from the next step on."""

    id: str
    values: Mapping[str, Any]


class Together(Protocol):
    """What a wish needs of the processes of a run (`trainyard.trainer.processes.World`)."""

    def any(self, *flags: bool) -> tuple[bool, ...]: ...

    def share(self, value: Any) -> Any: ...


class Control:
    """Wishes of the service and of signals, kept until the loop reaches a point where it can grant them.

    Of several processes the `first` reads `control.jsonl` and takes SIGUSR1; a SIGTERM counts in each.
    """

    def __init__(self, path: Path, pair: Pair, report: Reporter, first: bool = True) -> None:
        self.stop: str | None = None
        self.stop_asked: float | None = None
        """When this process first heard of a stop (monotonic)."""
        self.saved_step: int | None = None
        """The newest checkpoint's, which may still be in the making."""
        self._path, self._pair, self._report, self._first = path, str(pair), report, first
        self._offset = 0
        self._seen = set(report.acked)
        self._wanted: list[str] = []
        self._answering: list[str] = []
        self._first_is_begun = False
        self._changes: list[Change] = []
        self._somebody_changes = False
        self._no_validation: str | None = _NO_VALIDATION
        self._validations: list[str] = []
        self._validation_agreed = False
        self._signalled = False
        self._first_term: float | None = None
        self._leave_at_once = False
        self._together = False

    def listen(self) -> None:
        """From here on signals are wishes; SIGUSR2 prints every stack."""
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGUSR1, self._on_usr1)
        faulthandler.register(signal.SIGUSR2, file=sys.stderr, all_threads=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a launcher of ours blocked them until now

    def deafen(self) -> None:
        """The end is being told: another stop, or torch's launcher that ends the others, changes nothing any more."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    @property
    def checkpoint_wanted(self) -> bool:
        """Somebody asked for a checkpoint and has not had it."""
        return self._signalled or bool(self._wanted)

    def answer_validations(self, why_not: str | None) -> None:
        """Whether `validate` waits for the loop (None), or is refused and why; until this is called it is refused."""
        self._no_validation = why_not

    def poll(self) -> None:
        """Read `control.jsonl` to its end and note, or answer, what is new."""
        for command in self._unread():
            command_id = str(command.get("id"))
            if command_id in self._seen:
                continue
            self._seen.add(command_id)
            self._take(command_id, str(command.get("command")), command)

    def agree(self, world: Together) -> tuple[bool, bool]:
        """Whether to stop, and whether to save, now: the same in every process, so all of them must call it."""
        self.poll()
        stop, save, self._somebody_changes, self._validation_agreed = world.any(
            self.stop is not None, self.checkpoint_wanted, bool(self._changes), bool(self._validations)
        )
        if stop:
            self._together = True
            self._hear(self.stop or "another process was asked to")
        return stop, save

    def changes(self, world: Together) -> list[Change]:
        """The changes that nobody has answered yet, taken off; the same in every process, right after `agree`."""
        if not self._somebody_changes:
            return []
        self._somebody_changes = False
        waiting, self._changes = self._changes, []
        shared: list[Change] = world.share(waiting)
        return shared

    @property
    def validation_wanted(self) -> bool:
        """Somebody asked for a validation: the same in every process, since the last `agree`."""
        return self._validation_agreed

    def validations(self) -> list[str]:
        """The ids of those who asked for one, taken off; they are to be answered when it is there."""
        self._validation_agreed = False
        waiting, self._validations = self._validations, []
        return waiting

    def answer(self, command_id: str, ok: bool, message: str | None = None, step: int | None = None) -> None:
        """Answer a command: `step` is the one that a change holds from."""
        self._report.ack(command_id, ok, message, step)

    def check_together(self, world: Together) -> None:
        """As `check`, where every process comes as often."""
        if self.agree(world)[0]:
            raise self.stopped()

    def check(self) -> None:
        """Poll, and raise `Stopped` where a stop is wanted: for the phases that have nothing to save."""
        self.poll()
        if self.stop is not None:
            raise self.stopped()

    def stopped(self) -> Stopped:
        """The end of a run that was asked to stop."""
        return Stopped(saved=self.saved_step is not None, why=self.stop or "stop", together=self._together)

    def begun(self, step: int) -> None:
        """A checkpoint of `step` is being made: it is for whoever waited for one until now."""
        self._first_is_begun = self.saved_step is None
        self.saved_step = step
        self._signalled = False
        self._answering += self._wanted
        self._wanted = []

    def stands(self, step: int) -> None:
        """The checkpoint that was begun is complete: those it is for are answered."""
        self._first_is_begun = False
        answering, self._answering = self._answering, []
        for command_id in answering:
            self._report.ack(command_id, True, f"checkpoint at step {step}")

    def saved(self, step: int) -> None:
        """A complete checkpoint of `step` exists: whoever waited for one is answered."""
        self.begun(step)
        self.stands(step)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Around a long call of other people's code that has nothing to save and tells no events: a stop ends it.

        `StopNow` comes out of it, raised by the signal's handler; a thread looks into `control.jsonl` meanwhile.
        """
        self.check()
        over = threading.Event()
        peeker = threading.Thread(target=self._peek, args=(over,), name="control", daemon=True)
        peeker.start()
        try:
            self._leave_at_once = True
            if self.stop is not None:
                raise StopNow(self.stop)
            yield
        finally:
            self._leave_at_once = False
            over.set()
            peeker.join()
        self.check()

    def _hear(self, why: str) -> None:
        self.stop = why
        if self.stop_asked is None:
            self.stop_asked = time.monotonic()

    def _take(self, command_id: str, command: str, record: dict[str, object]) -> None:
        if command == "stop":
            self._hear(f"stop: {record['why']}" if record.get("why") else "stop")
            self._report.ack(command_id, True)
        elif command == "checkpoint":
            self._wanted.append(command_id)
        elif command == "change" and isinstance(values := record.get("values"), dict):
            self._changes.append(Change(command_id, values))
        elif command == "validate" and self._no_validation is None:
            self._validations.append(command_id)
        else:
            known = {"validate": self._no_validation, "change": _NO_VALUES}
            self._report.ack(command_id, False, known.get(command) or f"unknown command {command!r}")

    def _unread(self, move: bool = True) -> list[dict[str, object]]:
        if not self._first:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                fresh = file.read()
        except FileNotFoundError:
            return []
        whole = fresh[: fresh.rfind(b"\n") + 1]
        if move:
            self._offset += len(whole)
        return [r for r in map(_record, whole.splitlines()) if r is not None and r.get("attempt") == self._pair]

    def _peek(self, over: threading.Event) -> None:
        while not over.wait(_PEEK_SECONDS):
            if any(c.get("command") == "stop" for c in self._unread(move=False)):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
                return

    def _on_term(self, _signal: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._first_term is None:
            self._first_term = now
        elif now - self._first_term > _SECOND_TERM_AFTER:
            os.write(2, b"trainyard: a second SIGTERM: leaving at once\n")
            unsaved = self.saved_step is None or self._first_is_begun
            os._exit(Exit.STOPPED_UNSAVED if unsaved else Exit.STOPPED_SAVED)
        self._hear(self.stop or "SIGTERM")
        if self._leave_at_once:
            self._leave_at_once = False
            raise StopNow(self.stop)

    def _on_usr1(self, _signal: int, _frame: FrameType | None) -> None:
        self._signalled = self._first


def _record(line: bytes) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
