"""Results copied to an object store while training goes on, by a thread of its own."""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from attrs import frozen

from common.objects import ObjectError, ObjectUnreachable
from trainyard.trainer.checkpoints import RECORD, Tell, complete
from trainyard.trainer.failures import RunEnded
from trainyard.trainer.sources.remote import Remote, refused

_FIRST_WAIT, _LAST_WAIT = 1.0, 30.0
_GIVE_UP_SECONDS = 3600.0
_LOOK_SECONDS = 0.2
_TELL_SECONDS = 10.0
_LIVE_SECONDS = 10.0
_STAGED = ".uploads"
log = logging.getLogger("trainyard.trainer")
T = TypeVar("T")


@frozen
class _Checkpoint:
    step: int
    #: A folder of hard links: the checkpoint itself may be removed meanwhile.
    staged: Path


class Uploader:
    """Copies what lies in `local` to `remote`: checkpoints as they are made, results in the order given.

    A checkpoint is at the remote as a whole or not at all: its `checkpoint.json` comes last. One that waits makes way
    for a newer one, but not the best. A lost network is waited for; whatever else fails is raised by the next call of
    `checkpoint`, `result` or `close`. Nothing is changed there once the fence is up: a newer run's work lies there too.
    """

    def __init__(
        self,
        remote: Remote,
        local: Path,
        check_fence: Callable[[], None],
        steps: Sequence[int] = (),
        live: Sequence[Path] = (),
    ) -> None:
        """`steps` are those whose checkpoints are at the remote already; `live` folders whose files grow.

        Of those, what has changed is copied every few seconds, and what others left there stays.
        """
        self._remote = remote
        self._live, self._live_sent, self._live_next = live, dict[Path, tuple[int, int]](), 0.0
        self._local = local
        self._check_fence = check_fence
        self._changed = threading.Condition()
        self._waiting: list[_Checkpoint] = []
        #: The step that is on its way.
        self._sending: int | None = None
        self._there = set(steps)
        #: The steps that were handed over, and of which `when_there` is still to come.
        self._unheard: set[int] = set()
        self._untold: dict[int, Tell] = {}
        self._limit: tuple[int, int] | None = None
        self._results: list[Path] = []
        self._closing = False
        self._now = ""
        self._patient = True
        self._error: Exception | None = None
        shutil.rmtree(local / _STAGED, ignore_errors=True)
        self._thread = threading.Thread(target=self._run, name="upload", daemon=True)
        self._thread.start()

    def checkpoint(self, path: Path) -> None:
        """Copy a checkpoint's folder, `step-<n>`; it may be removed here right after. Returns at once.

        Nothing is removed for it until it is told: see `when_there`, which is to follow.
        """
        self._raise()
        step = int(path.name.removeprefix("step-"))
        staged = self._local / _STAGED / path.name
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(path, staged, copy_function=_linked)
        with self._changed:
            best = self._limit[1] if self._limit else 0
            older = [waiting for waiting in self._waiting if waiting.step != step]
            self._waiting = [*(w for w in older if w.step == best), _Checkpoint(step, staged)]
            self._unheard.add(step)
            self._changed.notify()
        for waiting in older:
            if waiting.step != best:
                shutil.rmtree(waiting.staged, ignore_errors=True)

    def when_there(self, step: int, tell: Tell) -> None:
        """Let `look` tell the checkpoint of a step once it is at the remote, or `leave`; of several the newest counts.

        Until then nothing is removed for it.
        """
        with self._changed:
            self._unheard.discard(step)
            self._untold[step] = tell

    def look(self) -> None:
        """Tell the checkpoints that are at the remote by now, and which of them stay; returns at once."""
        with self._changed:
            kept = self._kept(self._there)
            tells = {step: self._untold[step] for step in self._arrived()}
        for step, tell in tells.items():
            if step in kept:
                tell(f"{self._remote.uri}/{_folder(step)}", kept)
            with self._changed:
                del self._untold[step]
                self._changed.notify()

    def leave(self) -> None:
        """As `look`; then tell those that are on this machine alone: a run of this machine goes on from them."""
        self.look()
        for step, tell in sorted(self._untold.items()):
            path = self._local / _folder(step)
            if complete(path):
                tell(str(path), None)
        self._untold.clear()

    def prune(self, keep: int, best: int) -> None:
        """Remove the oldest at the remote, so that `keep` are left, but never that of step `best`."""
        with self._changed:
            self._limit = (keep, best)
            self._changed.notify()

    def result(self, path: Path) -> None:
        """Copy a file, or a folder in place of what is there; it must stay here until `close`."""
        self._raise()
        with self._changed:
            self._results.append(path)
            self._changed.notify()

    def close(
        self,
        check: Callable[[], None] = lambda: None,
        say: Callable[[str], None] = lambda _: None,
        *,
        patient: bool = True,
    ) -> None:
        """Wait until all is there. Raises what kept it from being there, with the name of the folder that has it.

        `patient`: wait for a network that is lost; otherwise its first failure is raised.
        """
        with self._changed:
            self._closing, self._patient = True, patient
            self._changed.notify()
        told = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(_LOOK_SECONDS)
            self.look()
            check()
            if time.monotonic() - told >= _TELL_SECONDS:
                told = time.monotonic()
                say(f"uploading to {self._remote.uri}: {self._now}")
        self.look()
        self._raise()
        shutil.rmtree(self._local / _STAGED, ignore_errors=True)

    def _raise(self) -> None:
        if isinstance(self._error, RunEnded):
            raise self._error
        if isinstance(self._error, ObjectError):
            raise refused(self._error, self._local) from self._error
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            while (task := self._next()) is not None:
                task()
        except Exception as e:
            log.warning("uploading to %s ended: %s", self._remote.uri, e)
            self._error = e

    def _next(self) -> Callable[[], None] | None:
        """The next thing to do; None when all is done and no more will come."""
        with self._changed:
            while True:
                if self._waiting:
                    found = self._waiting.pop(0)
                    self._sending = found.step
                    return lambda: self._send_checkpoint(found)
                if grown := self._grown():
                    return lambda: self._send_live(grown)
                if self._results:
                    path = self._results.pop(0)
                    return lambda: self._send_result(path)
                if (step := self._superfluous()) is not None:
                    return lambda: self._remove(step)
                if self._closing and not self._arrived():
                    return None
                self._changed.wait(_LIVE_SECONDS if self._live else None)

    def _grown(self) -> dict[Path, tuple[int, int]]:
        """The files of the live folders that are not at the remote as they are now.

        Looked at now and then, and once more before the results, of which the last says that all is there.
        """
        now, over = time.monotonic(), self._closing or bool(self._results)
        if not self._live or (now < self._live_next and not over):
            return {}
        self._live_next = now + _LIVE_SECONDS
        stats = {path: path.stat() for live in self._live for path in live.rglob("*") if path.is_file()}
        present = {path: (found.st_mtime_ns, found.st_size) for path, found in stats.items()}
        return {path: mark for path, mark in present.items() if self._live_sent.get(path) != mark}

    def _send_live(self, grown: dict[Path, tuple[int, int]]) -> None:
        for path, mark in grown.items():
            self._put(path.relative_to(self._local).as_posix(), path)
            self._live_sent[path] = mark

    def _superfluous(self) -> int | None:
        """A step whose checkpoint is to be removed; the newest ones are there by then, and told."""
        unheard = () if self._closing else self._unheard  # when all is over nobody will speak of them
        told = self._there.difference(self._arrived(), unheard)
        return max(told.difference(self._kept(told)), default=None)

    def _kept(self, steps: set[int]) -> list[int]:
        """Those that the limit leaves of so many."""
        keep, best = self._limit or (len(steps), 0)
        return sorted({*sorted(steps, reverse=True)[:keep], best} & steps)

    def _arrived(self) -> list[int]:
        """The steps whose checkpoints are at the remote and are still to be told."""
        on_their_way = {self._sending, *(waiting.step for waiting in self._waiting)}
        return sorted(self._there.intersection(self._untold).difference(on_their_way))

    def _send_checkpoint(self, found: _Checkpoint) -> None:
        folder = _folder(found.step)
        began = time.monotonic()
        before = self._again(lambda: self._remote.present(folder))
        mark = self._remote.key(f"{folder}/{RECORD}")
        if mark in before:
            self._change(lambda: self._remote.bucket.delete([mark]))
        names = [name for name in _names(found.staged) if name != RECORD]
        for name in [*names, RECORD]:
            self._put(f"{folder}/{name}", found.staged / name)
        self._drop(set(before) - {self._remote.key(f"{folder}/{name}") for name in [*names, RECORD]})
        with self._changed:
            self._there.add(found.step)
            self._sending = None
        shutil.rmtree(found.staged, ignore_errors=True)
        log.info("uploaded %s/%s in %.1f s", self._remote.uri, folder, time.monotonic() - began)

    def _send_result(self, path: Path) -> None:
        name = path.relative_to(self._local).as_posix()
        if path.is_file():
            self._put(name, path)
            return
        before = self._again(lambda: self._remote.present(name))
        names = _names(path)
        for file in names:
            self._put(f"{name}/{file}", path / file)
        self._drop(set(before) - {self._remote.key(f"{name}/{file}") for file in names})

    def _remove(self, step: int) -> None:
        with self._changed:
            self._there.discard(step)
        folder = _folder(step)
        keys = self._again(lambda: self._remote.present(folder))
        mark = self._remote.key(f"{folder}/{RECORD}")
        if mark in keys:  # first: from then on nobody takes it for a whole one
            self._drop({mark})
        self._drop(set(keys) - {mark})

    def _put(self, name: str, path: Path) -> None:
        self._now = name
        self._change(lambda: self._remote.bucket.put(self._remote.key(name), path))

    def _drop(self, keys: set[str]) -> None:
        """Remove what is old; a store that does not let us keeps it."""
        try:
            if keys:
                self._change(lambda: self._remote.bucket.delete(sorted(keys)))
        except ObjectError as e:
            log.warning("%s: what is old stays there: %s", self._remote.uri, e)

    def _change(self, work: Callable[[], object]) -> None:
        """As `_again`, for what changes something there; the fence is looked at before each try."""

        def unless_replaced() -> None:
            self._check_fence()
            work()

        self._again(unless_replaced)

    def _again(self, work: Callable[[], T]) -> T:
        """Do it, and again while the store can't be reached."""
        began, wait = time.monotonic(), _FIRST_WAIT
        while True:
            try:
                return work()
            except ObjectUnreachable as e:
                if not self._patient or time.monotonic() - began > _GIVE_UP_SECONDS:
                    raise
                log.warning("upload: %s; it is tried again in %.0f s", e, wait)
            self._pause(wait)
            wait = min(wait * 2, _LAST_WAIT)

    def _pause(self, seconds: float) -> None:
        """Wait, unless somebody is in a hurry."""
        until = time.monotonic() + seconds
        with self._changed:
            while self._patient and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)


def _folder(step: int) -> str:
    return f"checkpoints/step-{step}"


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _linked(source: str, target: str) -> str:
    """The same file under a second name; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
