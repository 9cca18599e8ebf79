"""Checkpoints: written aside, flushed, fenced, renamed (docs/TRAINER.md, "Checkpoints")."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from attrs import field, frozen

from common.folder import FORMAT, Pair
from trainyard.trainer.claim import SPARE_BYTES
from trainyard.trainer.failures import ConfigError, DiskFull
from trainyard.trainer.finishing import Finishing, Sums, flush, flush_all, sha256

RECORD = "checkpoint.json"
log = logging.getLogger("trainyard.trainer")


@frozen
class Checkpoint:
    """A complete checkpoint; `record` is its `checkpoint.json`."""

    path: Path
    record: Mapping[str, Any]

    @property
    def step(self) -> int:
        return int(self.record["step"])

    @property
    def bytes(self) -> int:
        return sum(int(size) for size, _ in self.record["files"].values())

    def told(self, uri: str, kind: str, kept: Sequence[int] | None = None) -> dict[str, Any]:
        """What an event says of it; `kept`: the steps whose checkpoints stay where results are copied to."""
        found = {"step": self.step, "uri": uri, "bytes": self.bytes, "kind": kind}
        return found if kept is None else found | {"kept": list(kept)}


#: Given where a checkpoint is, and the steps that are kept there; None: it is on this machine alone.
Tell = Callable[[str, Sequence[int] | None], None]


class Copies(Protocol):
    """Copies checkpoints to where they are to be; every call returns at once."""

    def checkpoint(self, path: Path) -> None: ...
    def when_there(self, step: int, tell: Tell) -> None: ...
    def look(self) -> None: ...
    def prune(self, keep: int, best: int) -> None: ...


@frozen
class Checkpoints:
    """The checkpoints of one job under its output folder, as one attempt sees and writes them."""

    output: Path
    uid: str
    pair: Pair
    check_fence: Callable[[], None]
    #: Free disk that a checkpoint leaves.
    spare_bytes: int = SPARE_BYTES
    #: Where the output is an object store.
    copies: Copies | None = None
    #: The checkpoint that is written but does not stand yet; whoever begins one settles it before it leaves.
    finishing: Finishing[tuple[Checkpoint, Exception | None]] = field(factory=Finishing)

    @property
    def folder(self) -> Path:
        return self.output / "checkpoints"

    def claim(self) -> None:
        """Make the folder, clear what older attempts left half-done; `ConfigError` when it is another job's."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise ConfigError(f"artifacts.output_uri: {self.folder} can't be made: {e.strerror}") from e
        for path in (self.output / "manifest.json", *self.folder.glob(f"*/{RECORD}")):
            owner = (read_json(path) or {}).get("uid", self.uid)
            if owner != self.uid:
                raise ConfigError(
                    f"artifacts.output_uri: {self.output} holds the work of another job ({path.name} of {owner}); "
                    "give a folder of its own"
                )
        for left in (*self.folder.glob("step-*.*"), *self.output.glob("final.*")):
            author = _left_by(left)
            if author is not None and author < self.pair:
                shutil.rmtree(left, ignore_errors=True)

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint whose files are what they were; damaged ones are passed over and named."""
        for path in self._steps():
            problem = damage(path, self.uid)
            if problem is None:
                return Checkpoint(path, read_json(path / RECORD) or {})
            log.warning("%s is passed over: %s", path, problem)
        return None

    def in_size(self) -> Checkpoint | None:
        """The newest whose files are all there and have their sizes: a guess at `newest` that takes no time."""
        found = next((path for path in self._steps() if damage(path, self.uid, sums=False) is None), None)
        return None if found is None else Checkpoint(found, read_json(found / RECORD) or {})

    def save(self, step: int, needed: int, write: Callable[[Path], Mapping[str, Any]]) -> Checkpoint:
        """Write a checkpoint of `step`: `write` fills the folder it is given and returns the record's own fields.

        Raises `DiskFull` before anything is written when less than `needed` bytes are free, `Fenced` before the rename.
        """
        done: list[Checkpoint] = []
        self.begin(step, needed, lambda folder, _: write(folder), later=lambda _: None, then=done.append, at_once=True)
        self.finishing.settle()
        return done[0]

    def begin(
        self,
        step: int,
        needed: int,
        write: Callable[[Path, Sums], Mapping[str, Any]],
        *,
        later: Callable[[Path], object],
        then: Callable[[Checkpoint], None],
        at_once: bool = False,
    ) -> None:
        """As `save`, but only `write` is waited for: what must be of this very step. What it returns must not change.

        A thread calls `later` with the folder, for what does not change, and makes a checkpoint of it; `then` is called
        with that by `finishing.look` or `finishing.settle`, which also raise what went wrong; why it can't be copied
        only after that. `at_once`: that is waited for too.
        """
        self.finishing.settle()
        aside, state, sums = self._written(step, needed, write, at_once)

        def finish() -> tuple[Checkpoint, Exception | None]:
            done = self._finished(step, aside, state, sums, later)
            return done, self._handed_on(done)

        def follow(finished: tuple[Checkpoint, Exception | None]) -> None:
            done, refused = finished
            then(done)
            if refused is not None:
                raise refused

        self.finishing.begin(finish, follow)

    def _written(
        self, step: int, needed: int, write: Callable[[Path, Sums], Mapping[str, Any]], at_once: bool
    ) -> tuple[Path, Mapping[str, Any], Sums]:
        self.check_room(needed)
        aside = self.folder / f"step-{step}.tmp-{self.pair}"
        sums = Sums(aside, at_once=at_once)
        try:
            fresh(aside)
            return aside, write(aside, sums), sums
        except BaseException:
            sums.close()
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _finished(
        self,
        step: int,
        aside: Path,
        state: Mapping[str, Any],
        sums: Sums,
        later: Callable[[Path], object],
    ) -> Checkpoint:
        try:
            later(aside)
            record = {
                "format": FORMAT,
                "uid": self.uid,
                "attempt": str(self.pair),
                "step": step,
                **state,
                "files": sums.all(),
            }
            (aside / RECORD).write_text(json.dumps(record))
            path = publish(aside, self.folder / f"step-{step}", self.pair, self.check_fence)
        finally:
            sums.close()
            shutil.rmtree(aside, ignore_errors=True)
        return Checkpoint(path, record)

    def _handed_on(self, done: Checkpoint) -> Exception | None:
        """Let it be copied. What is wrong with that is returned: it stands all the same, and is to be told first."""
        try:
            if self.copies is not None:
                self.copies.checkpoint(done.path)
        except Exception as e:
            return e
        return None

    def look(self) -> None:
        """Do what follows from a checkpoint that stands, or is where it was copied to, by now; returns at once.

        Raises what went wrong with the one that was begun.
        """
        self.finishing.look()
        if self.copies is not None:
            self.copies.look()

    def check_room(self, needed: int, what: str = "a checkpoint") -> None:
        """Raises `DiskFull` when the output folder's disk has less than `needed` and `spare_bytes` free."""
        free = shutil.disk_usage(self.output).free
        if free < needed + self.spare_bytes:
            raise DiskFull(
                f"{self.output}: {what} needs {needed + self.spare_bytes:,} bytes, {free:,} are free; none was begun"
            )

    def of(self, step: int) -> Checkpoint | None:
        """The complete checkpoint of a step."""
        path = self.folder / f"step-{step}"
        return Checkpoint(path, read_json(path / RECORD) or {}) if complete(path) else None

    def prune(self, keep: int | None, best: int = 0) -> None:
        """Remove the oldest, so that `keep` are left (None: all), but never that of step `best`."""
        for path in self._steps()[keep:] if keep else ():
            if path.name != f"step-{best}":
                remove(path, self.pair)
        if keep and self.copies is not None:
            self.copies.prune(keep, best)

    def _steps(self) -> list[Path]:
        found = [p for p in self.folder.glob("step-*") if p.name.removeprefix("step-").isdigit() and p.is_dir()]
        return sorted(found, key=lambda p: int(p.name.removeprefix("step-")), reverse=True)


def complete(path: Path) -> bool:
    """Whether `checkpoint.json` exists and every file has its size."""
    return damage(path, sums=False) is None


def damage(path: Path, uid: str | None = None, sums: bool = True) -> str | None:
    """What is wrong with a checkpoint, or None."""
    record = read_json(path / RECORD)
    if record is None:
        return f"{RECORD} is missing or no JSON"
    if record.get("format") != FORMAT or not isinstance(record.get("files"), dict):
        return f"{RECORD} has format {record.get('format')!r}, this trainer reads {FORMAT}"
    if uid is not None and record.get("uid") != uid:
        return f"it is of job {record.get('uid')}"
    for name, (size, digest) in record["files"].items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            return f"{name} has {found} bytes, not {size}" if found is not None else f"{name} is missing"
        if sums and sha256(file) != digest:
            return f"{name} is not what was written (sha256)"
    return None


def publish(aside: Path, target: Path, pair: Pair, check_fence: Callable[[], None]) -> Path:
    """Flush everything in `aside`, look at the fence, rename it to `target`, flush the parent.

    An old one makes way by a rename and is deleted only when the new one stands: deleting takes long, and a kill in
    the middle must not leave neither.
    """
    flush_all(aside)
    check_fence()
    old = put_away(target, pair) if target.exists() else None
    aside.rename(target)
    flush(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return target


def remove(path: Path, pair: Pair) -> None:
    """Rename away, then delete: nobody takes a half-deleted folder for a whole one."""
    shutil.rmtree(put_away(path, pair), ignore_errors=True)


def put_away(path: Path, pair: Pair) -> Path:
    """Rename a folder out of the way; where it lies now."""
    away = path.with_name(f"{path.name}.old-{pair}")
    shutil.rmtree(away, ignore_errors=True)
    path.rename(away)
    return away


def fresh(folder: Path) -> None:
    """An empty folder of this name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None when there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _left_by(path: Path) -> Pair | None:
    _, mark, pair = path.name.partition(".tmp-")
    if not mark:
        _, mark, pair = path.name.partition(".old-")
    try:
        return Pair.parse(pair) if mark else None
    except ValueError:
        return None
