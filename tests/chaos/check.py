"""What must hold of a job after all that was done to it, compared with one that nobody disturbed."""

import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.errors import IllegalMove
from common.job import Event, Job, Phase, Status, fold_all
from tests.chaos.acts import STEPS
from tests.chaos.scene import Subject
from tests.server import ENDS
from trainyard.trainer.checkpoints import damage

_ENDINGS = {f"job.{end}" for end in ENDS}
_BEGINNINGS = ("job.queued", "job.retrying")


def half_checkpoints(output: Path) -> list[str]:
    """Visible checkpoints that are not whole; one that is removed while it is looked at is none."""
    visible = [p for p in sorted(output.glob("checkpoints/step-*")) if p.name.removeprefix("step-").isdigit()]
    harms = [(path, _damage(path)) for path in visible]
    return [f"{path} is visible and damaged: {harm}" for path, harm in harms if harm is not None and path.exists()]


def _damage(path: Path) -> str | None:
    """What is wrong with it; a file that is removed between two looks at it is missing."""
    try:
        return damage(path)
    except FileNotFoundError as e:
        return str(e)


def problems_of(subject: Subject, whole: Subject) -> list[str]:
    """All that is wrong with a job that has ended; `whole` is the undisturbed one."""
    events, other = subject.scene.events(subject.job_id), whole.scene.events(whole.job_id)
    found = (
        *_log(events, subject.job()),
        *_curve(events, other),
        *_told(events, subject),
        *half_checkpoints(subject.output),
        *_files(subject, whole),
        *(f"process {pid} is left" for pid in subject.left()),
    )
    return [f"{subject.job_id}: {problem}" for problem in found]


def _log(events: list[Any], job: Any) -> Iterator[str]:
    """Sequences without gaps, one end, and a job that is the fold of its events."""
    if [e["sequence"] for e in events] != list(range(1, len(events) + 1)):
        yield f"its sequences have gaps: {[e['sequence'] for e in events]}"
    if any(a["id"] >= b["id"] for a, b in itertools.pairwise(events)):
        yield "its ids do not rise"
    ends = [e["type"] for e in events if e["type"] in _ENDINGS]
    if ends != ["job.succeeded"] or events[-1]["type"] != "job.succeeded":
        yield f"it ended {ends}, and last was {events[-1]['type']}: {events[-1]['data']}"
    known = ("id", "job_id", "sequence", "attempt", "type", "message", "time", "data")
    listed = [
        Event(status=Status(e["status"]), phase=e["phase"] and Phase(e["phase"]), **{name: e[name] for name in known})
        for e in events
    ]
    try:
        folded = fold_all(Job(uid=job["uid"], job_id=job["job_id"], backend="local"), listed)
    except IllegalMove as e:
        yield f"its events do not follow from each other: {e}"
        return
    for name, value in (("status", folded.status), ("attempt", folded.attempt), ("reason", folded.reason)):
        if job[name] != value:
            yield f"its {name} is {job[name]!r}, its events say {value!r}"


def _curve(events: list[Any], other: list[Any]) -> Iterator[str]:
    """Every loss that was ever told is that of the undisturbed run at that step; none is missing, none out of turn."""
    expected, losses = _values(other, "job.progress", "loss"), _values(events, "job.progress", "loss")
    if [step for step, _ in expected] != list(range(1, STEPS + 1)):
        yield f"the undisturbed run told steps {[step for step, _ in expected]}"
    if missing := set(dict(expected)) - set(dict(losses)):
        yield f"steps {sorted(missing)} were never told"
    if strange := set(losses) - set(expected):
        yield f"losses differ: {sorted(strange)[:5]}, and {len(strange) - 5} more"
    if strange := set(_values(events, "job.validation", "metrics")) - set(_values(other, "job.validation", "metrics")):
        yield f"held-out losses differ: {sorted(strange)[:5]}"
    for attempt, own in itertools.groupby(events, lambda e: e["attempt"]):
        mine = list(own)
        steps = [e["data"]["step"] for e in mine if e["type"] == "job.progress"]
        if steps != list(range(steps[0], steps[-1] + 1)) if steps else False:
            yield f"attempt {attempt} told its steps out of turn: {steps}"
        begun = [e["data"].get("resumed_from") or 0 for e in mine if e["type"] in _BEGINNINGS]
        if steps and begun and begun[-1] + 1 != steps[0]:
            yield f"attempt {attempt} was to go on from step {begun[-1]} and told step {steps[0]}"


def _values(events: list[Any], kind: str, name: str) -> list[tuple[int, str]]:
    """The step and the value, as text: equal means every digit."""
    values = [(e["data"]["step"], e["data"][name]) for e in events if e["type"] == kind]
    return [(step, json.dumps(_lasting(value), sort_keys=True)) for step, value in values]


def _lasting(value: Any) -> Any:
    """Metrics without those that tell how long something took."""
    return {k: v for k, v in value.items() if "second" not in k} if isinstance(value, dict) else value


def _told(events: list[Any], subject: Subject) -> Iterator[str]:
    """What each run wrote into its file is in the store once, in its order.

    Behind it comes at most the one checkpoint that was making when the run was killed, which the service tells.
    """
    saved = [e["data"]["step"] for e in events if e["type"] == "job.checkpoint" and e["data"]["kind"] != "best"]
    if len(saved) != len(set(saved)):
        yield f"checkpoints were told more than once: {saved}"
    for pair in subject.pairs():
        lines = subject.lines(pair)
        if [line["n"] for line in lines] != list(range(1, len(lines) + 1)):
            yield f"events.jsonl of attempt {pair} has holes"
        for kind in ("progress", "checkpoint", "validation"):
            written = [line["data"]["step"] for line in lines if line["type"] == kind]
            own = [e for e in events if (e["type"], e["attempt"]) == (f"job.{kind}", pair.attempt)]
            stored = [e["data"]["step"] for e in own]
            of_service = stored[len(written) :][:1] if kind == "checkpoint" else []
            if written + of_service != stored:
                yield f"attempt {pair} wrote {kind} of {written}, the store has {stored}"


def _files(subject: Subject, whole: Subject) -> Iterator[str]:
    """The result and the last checkpoint, byte for byte; nothing half-done beside them."""
    kept, others = (sorted(path.name for path in (job.output / "checkpoints").iterdir()) for job in (subject, whole))
    if kept != others:
        yield f"checkpoints/ has {kept}, not {others}"
    yield from (f"{path} is left" for path in subject.output.glob("final.*"))
    yield from (f"{path} is left" for path in subject.folder.path.glob("secrets.*"))
    for folder in ("final", f"checkpoints/step-{STEPS}"):
        weights = sorted(p.relative_to(whole.output) for p in whole.output.glob(f"{folder}/*.safetensors"))
        if not weights:
            yield f"the undisturbed run has no weights in {folder}"
        for name in [*weights, *([Path(folder) / "optimizer.pt"] if folder != "final" else [])]:
            if not (subject.output / name).exists():
                yield f"{name} is missing"
            elif (subject.output / name).read_bytes() != (whole.output / name).read_bytes():
                yield f"{name} differs from the undisturbed run's"


def problems_of_store(database: Path) -> list[str]:
    """Of a service that was stopped: what SQLite finds wrong, and rows that are not what their events say."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as store:
        found = [str(row) for row in store.execute("PRAGMA integrity_check") if row != ("ok",)]
        found += [f"foreign key: {row}" for row in store.execute("PRAGMA foreign_key_check")]
        newest = (
            "SELECT job_id, last_sequence, last_event_id, max(sequence), max(id), count(*) "
            "FROM jobs JOIN events ON job_uid = uid GROUP BY uid"
        )
        for job_id, sequence, event_id, *others in store.execute(newest):
            if [sequence, event_id, sequence] != others:
                found.append(f"{job_id} is at sequence {sequence}, event {event_id}; its events say {others}")
    store.close()
    return found
