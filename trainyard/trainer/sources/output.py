"""A run whose `output_uri` is an object store: what lies there is brought here, what it makes is copied there."""

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from common.access import Auth
from trainyard.trainer.checkpoints import Checkpoint, Checkpoints, damage, fresh, read_json
from trainyard.trainer.failures import Fenced, StopNow
from trainyard.trainer.run import Run

if TYPE_CHECKING:
    from trainyard.trainer.sources.remote import Remote
    from trainyard.trainer.sources.upload import Uploader

_MANIFEST = "manifest.json"
_LIVE = ("tensorboard", "validation")
"""What people look at while the run goes on."""
log = logging.getLogger("trainyard.trainer")


@contextmanager
def copied(run: Run, checkpoints: Checkpoints) -> Iterator[Checkpoints]:
    """Around a whole run: the checkpoints to use, which are copied to the remote output where there is one.

    At the beginning the remote's newest whole checkpoint is downloaded where it is newer than those of this machine. A
    good run ends when all of its results are at the remote; then the copies here are removed. A run that ends before
    its time tries to leave its newest checkpoint there; one that stays here is told with its path, and one that an
    earlier run left there untold with its URI. Of several processes the first copies.

    Raises `ConfigError` (another job's folder), `SourceRefused`, `DiskFull`.
    """
    if run.spec.remote is None:
        yield checkpoints
        return
    from trainyard.trainer.sources.remote import Remote  # jobs with a local output begin sooner without
    from trainyard.trainer.sources.upload import Uploader

    part = (run.spec.request.get("artifacts") or {}).get("auth")
    remote = Remote.open(run.spec.remote, Auth.of(part, run.secrets.values, "artifacts.auth", run.spec.job_id))
    with _one_at_a_time(run):
        steps = remote.claim(run.spec.uid, run.control.check, run.report.log)
        _bring(run, checkpoints, remote, steps)
        newest = checkpoints.newest()
    if run.claim.rank:
        yield checkpoints
        return
    uploader = Uploader(
        remote, run.spec.output, run.fence.check, steps, live=[run.spec.output / name for name in _LIVE]
    )
    if newest is not None and newest.step not in steps:  # what an earlier run could not leave there
        uploader.checkpoint(newest.path)
        _tell_when_there(run, uploader, newest)
    for found in _untold(run, checkpoints, remote, steps):
        _tell_when_there(run, uploader, found)
    try:
        yield evolve(checkpoints, copies=uploader)
    except (Exception, StopNow) as e:
        if not isinstance(e, Fenced):
            _leave_checkpoint(run, uploader)
        raise
    try:
        run.report.phase("uploading")
        for path in _results(run.spec.output):
            uploader.result(path)
        uploader.close(run.control.check, run.report.log)
    except Exception as e:
        if not isinstance(e, Fenced):
            _tell_left(run, uploader)
        raise
    shutil.rmtree(run.spec.output, ignore_errors=True)


@contextmanager
def _one_at_a_time(run: Run) -> Iterator[None]:
    """The processes of a run one after another: the first one downloads, the others find it here."""
    lock = os.open(run.spec.output / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _bring(run: Run, checkpoints: Checkpoints, remote: "Remote", steps: list[int]) -> None:
    """The newest whole checkpoint, and the best one that it tells of; those of this machine are as good."""
    local = checkpoints.newest()
    for step in steps:
        if local is not None and local.step >= step:
            return
        run.report.phase("downloading")
        folder = _brought(run, checkpoints, remote, step)
        if folder is not None:
            best = _best_step(folder)
            if best in steps and best != step and checkpoints.of(best) is None:
                _brought(run, checkpoints, remote, best)
            return


def _brought(run: Run, checkpoints: Checkpoints, remote: "Remote", step: int) -> Path | None:
    """A checkpoint as it is here now; None where its files are not what was written."""
    folder = checkpoints.folder / f"step-{step}"
    aside = checkpoints.folder / f"step-{step}.tmp-{run.claim.pair}"
    fresh(aside)
    remote.bring(step, aside, run.control.check, run.report.log)
    problem = damage(aside, run.spec.uid)
    if problem is not None:
        run.report.log(f"{remote.uri}/checkpoints/step-{step} is passed over: {problem}", level="warning")
        shutil.rmtree(aside)
        return None
    shutil.rmtree(folder, ignore_errors=True)
    return aside.rename(folder)


def _best_step(folder: Path) -> int:
    record = read_json(folder / "checkpoint.json") or {}
    return int(((record.get("progress") or {}).get("best") or {}).get("step") or 0)


def _results(output: Path) -> list[Path]:
    """What a run leaves beside its checkpoints and what was copied all the while; the manifest last."""
    known = ("checkpoints", *_LIVE)
    found = sorted(p for p in output.iterdir() if p.name not in known and "." not in p.name.removesuffix(".json"))
    return sorted(found, key=lambda path: path.name == _MANIFEST)


def _untold(run: Run, checkpoints: Checkpoints, remote: "Remote", steps: list[int]) -> list[Checkpoint]:
    """Those at the remote of which no run told that: it was killed before. Where its events are elsewhere, it did."""
    here = [found for step in steps if (found := checkpoints.of(step)) is not None]
    told, attempts = set[object](), set[str]()
    for path in run.claim.folder.path.glob("attempts/*/events.jsonl") if here else ():
        attempts.add(path.parent.name)
        told.update(_told(path))
    uris = {found.step: run.report.mask(f"{remote.uri}/checkpoints/{found.path.name}") for found in here}
    return [found for found in here if found.record.get("attempt") in attempts and uris[found.step] not in told]


def _told(events: Path) -> Iterator[object]:
    """The URIs of checkpoints in what a run told; a line that was cut, as those after it, nobody heard."""
    with events.open("rb") as file:
        for line in file:
            if b'"checkpoint"' not in line:
                continue
            try:
                event = json.loads(line) if line.endswith(b"\n") else {}
            except ValueError:
                return
            if event.get("type") == "checkpoint":
                yield event["data"].get("uri")


def _tell_when_there(run: Run, uploader: "Uploader", found: Checkpoint) -> None:
    """The run that wrote it could only tell that it stood on this machine."""
    kind = "best" if _best_step(found.path) == found.step else "step"
    uploader.when_there(found.step, lambda uri, kept: run.report.event("checkpoint", found.told(uri, kind, kept)))


def _leave_checkpoint(run: Run, uploader: "Uploader") -> None:
    """The run ends for a reason of its own; that its newest checkpoint stays here is only said."""
    try:
        uploader.close(patient=False)
    except Exception as e:
        log.warning("the newest checkpoint is not at %s: %s", run.spec.remote, e)
    _tell_left(run, uploader)


def _tell_left(run: Run, uploader: "Uploader") -> None:
    """The run ends for a reason of its own, so that events which can't be written any more are only logged."""
    try:
        uploader.leave()
    except Exception as e:
        log.warning("what stays in %s could not be told: %s", run.spec.output, e)
