"""Jobs in the store: accept one, append events to one, read rows."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import asdict, frozen

from common.backend import Cursor, Handle
from common.clock import Clock, stamp
from common.errors import Conflict, NotFound
from common.event import Body, JobFailed, JobQueued
from common.job import Job, Phase, Reason, Status, Wish, after, fold
from common.json_text import to_text
from common.secret import SecretBox
from schemas import secrets
from service.store import deliveries, events
from service.store.base import REPLACED, Changes, Filters, JobRecord, NewJob, Scope, StoredEvent
from service.store.queries import load

SQL = load("jobs")
LIGHT = """seq, uid, job_id, backend, backend_job_id, status, phase, detail, reason, attempt, version, wanted, priority,
    lane, not_before, handle, created_at, started_at, ended_at, last_event_id, last_sequence, progress, labels,
    warnings, hooks"""


#: What a run says all the time; it is no obstacle for those who decided by the row as it was.
_SAID = frozenset({"job.progress", "job.log"})


@frozen(kw_only=True)
class Appending:
    """Everything that an append needs beside the connection."""

    clock: Clock
    box: SecretBox
    event_bytes: int


def add(connection: sqlite3.Connection, out: list[StoredEvent], new: NewJob, how: Appending) -> JobRecord | str:
    """Insert the job with its first event; gives its record, or the uid of the same job accepted before."""
    same = connection.execute(SQL["same_name"], (new.job_id,)).fetchone()
    if same is not None:
        return _same_or_conflict(same, new)
    job = Job(uid=new.uid, job_id=new.job_id, backend=new.backend, priority=new.priority, labels=new.labels)
    now = stamp(how.clock.now())
    job = _event(connection, out, job, JobQueued(), now, new.hooks, how)
    row = (
        *(new.uid, new.job_id, new.owner, new.tenant, new.backend, job.status, job.phase, job.attempt, new.priority),
        *(new.lane, now, job.last_event_id, job.last_sequence, now, to_text(new.labels), new.document),
        *(new.spec, new.warnings, to_text(new.hooks)),
    )
    seq = connection.execute(SQL["insert_job"], row).lastrowid
    assert seq is not None
    if new.labels:
        connection.executemany(SQL["insert_label"], [(new.uid, k, v) for k, v in new.labels.items()])
    if new.secrets:
        connection.execute(SQL["insert_secrets"], (new.uid, how.box.seal(new.uid, new.secrets)))
    return JobRecord(
        job=job,
        seq=seq,
        version=1,
        wanted=Wish.RUN,
        detail=None,
        handle=None,
        not_before=None,
        lane=new.lane,
        warnings=new.warnings,
        hooks=new.hooks,
        document=new.document,
        spec=new.spec,
    )


def _same_or_conflict(row: tuple[Any, ...], new: NewJob) -> str:
    uid, job_id, document = row
    if job_id == new.job_id and same(document, new.document):
        return str(uid)
    raise Conflict(
        f"job_id {new.job_id!r} is taken by another document; send a new job_id"
        " (a clone of that job, which needs a new one too, is not in this version)"
        if job_id == new.job_id
        else f"job_id {new.job_id!r} differs only in case from one that is taken; send another job_id"
    )


def _explanation(bodies: Sequence[Body]) -> str | None:
    """Why a job failed, for those who look at the job and not at its events."""
    last = bodies[-1] if bodies else None
    return last.message() if isinstance(last, JobFailed) else None


def same(one: str, other: str) -> bool:
    """Whether two stored documents are the same one."""
    return secrets.same(json.loads(one), json.loads(other))


def append(
    connection: sqlite3.Connection,
    out: list[StoredEvent],
    uid: str,
    bodies: Sequence[Body],
    *,
    attempt: int | None,
    cursor: Cursor | None,
    changes: Changes,
    if_version: int | None,
    how: Appending,
) -> Job:
    """Append and fold, on the row as it is in this transaction."""
    row = connection.execute(SQL["folded"], (uid,)).fetchone()
    if row is None:
        raise NotFound(f"there is no job with uid {uid!r}")
    *state, last_time, version, detail, not_before, hooks = row
    if if_version is not None and version != if_version:
        raise Conflict(f"job {state[1]!r} changed meanwhile")
    before = job = _job(state)
    for body in bodies:
        now = max(stamp(how.clock.now()), last_time)
        job = _event(connection, out, job, body, now, json.loads(hooks), how, attempt)
        last_time = now
    if cursor is not None:
        events.move_cursor(connection, uid, attempt or job.attempt, cursor)
    moved = (before.status, before.attempt) != (job.status, job.attempt)
    only_said = changes == Changes() and all(body.type in _SAID for body in bodies)
    connection.execute(
        SQL["update_job"],
        (
            *(job.backend, job.backend_job_id, job.status, job.phase, job.reason, job.attempt),
            *(_json(job.progress), job.started_at, job.ended_at, job.last_event_id, job.last_sequence, last_time),
            *(changes.wanted, _handle_text(changes.handle), before.attempt != job.attempt or changes.without_run),
            changes.not_before if changes.not_before is not None else None if moved else not_before,
            changes.detail or _explanation(bodies) or (None if moved else detail),
            not only_said,
            uid,
        ),
    )
    _rewrite(connection, before, job, changes)
    if changes.secrets:
        sealed = connection.execute(SQL["secrets"], (uid,)).fetchone()
        known = how.box.open(uid, sealed[0]) if sealed else {}
        connection.execute(SQL["replace_secrets"], (uid, how.box.seal(uid, _replaced(known, changes.secrets))))
    return job


def _replaced(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The secrets with those that were given; what they replace is kept, under no path of the document."""
    present = {path: value for path, value in known.items() if not path.startswith(REPLACED)} | dict(given)
    gone = dict.fromkeys(value for value in known.values() if value not in present.values())
    return present | {f"{REPLACED}{n}": value for n, value in enumerate(gone)}


def _rewrite(connection: sqlite3.Connection, before: Job, job: Job, changes: Changes) -> None:
    """Write what only a resume or a change of the document alters."""
    texts = (changes.lane, changes.spec, changes.warnings, changes.changes)
    if not any(texts) and (before.priority, before.labels) == (job.priority, job.labels):
        return
    connection.execute(SQL["rewrite_job"], (job.priority, to_text(job.labels), *texts, job.uid))
    if before.labels != job.labels:
        connection.execute(SQL["forget_labels"], (job.uid,))
        connection.executemany(SQL["insert_label"], [(job.uid, k, v) for k, v in job.labels.items()])


def _event(
    connection: sqlite3.Connection,
    out: list[StoredEvent],
    job: Job,
    body: Body,
    now: str,
    hooks: Mapping[str, Sequence[str]],
    how: Appending,
    attempt: int | None = None,
) -> Job:
    data = body.data()
    present = job.attempt if attempt is None else attempt
    number, status, phase = after(job, body.type, present, data)
    draft = events.Draft(job.job_id, job.last_sequence + 1, number, body.type, status, phase, body.message(), now, data)
    event, text = events.insert(connection, job.uid, draft, how.event_bytes)
    told = bool(hooks) and deliveries.enqueue(connection, job.uid, event, hooks, how.clock.now())
    out.append(events.stored(event.id, job.uid, event.type, text, told))
    return fold(job, event)


def _job(row: Sequence[Any]) -> Job:
    (uid, job_id, backend, priority, labels, backend_job_id, status, phase, reason, attempt, progress) = row[:11]
    created_at, started_at, ended_at, last_event_id, last_sequence = row[11:]
    return Job(
        uid=uid,
        job_id=job_id,
        backend=backend,
        priority=priority,
        labels=json.loads(labels),
        backend_job_id=backend_job_id,
        status=Status(status),
        phase=phase and Phase(phase),
        reason=reason and Reason(reason),
        attempt=attempt,
        progress=None if progress is None else json.loads(progress),
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        last_event_id=last_event_id,
        last_sequence=last_sequence,
    )


_FOLDED = (
    *("uid", "job_id", "backend", "priority", "labels", "backend_job_id", "status", "phase", "reason", "attempt"),
    *("progress", "created_at", "started_at", "ended_at", "last_event_id", "last_sequence"),
)


def record(row: Mapping[str, Any]) -> JobRecord:
    """A whole or a light row."""
    keys = row.keys()
    whole = {k: row[k] for k in ("document", "spec", "changes") if k in keys}
    return JobRecord(
        job=_job([row[name] for name in _FOLDED]),
        seq=row["seq"],
        version=row["version"],
        wanted=Wish(row["wanted"]),
        detail=row["detail"],
        handle=_handle(row["handle"]),
        not_before=row["not_before"],
        lane=row["lane"],
        warnings=row["warnings"],
        hooks=json.loads(row["hooks"]),
        **whole,
    )


def listing(scope: Scope, filters: Filters, before: int | None, limit: int) -> tuple[str, list[object]]:
    """The query of `GET /train`, newest first, by a keyset; and its parameters."""
    where: list[str] = []
    values: list[object] = []

    def also(condition: str, *given: object) -> None:
        where.append(condition)
        values.extend(given)

    if before is not None:
        also("seq < ?", before)
    if filters.statuses:
        also(f"status IN ({', '.join('?' * len(filters.statuses))})", *filters.statuses)
    if filters.backend is not None:
        also("backend = ?", filters.backend)
    for key, value in filters.labels:
        also("uid IN (SELECT job_uid FROM labels WHERE key = ? AND value = ?)", key, value)
    if scope.owner is not None:
        also("owner = ?", scope.owner)
    if scope.tenant is not None:
        also("tenant = ?", scope.tenant)
    condition = f"WHERE {' AND '.join(where)}" if where else ""
    # Only fixed texts are put together here; every value is a parameter.
    return f"SELECT {LIGHT} FROM jobs {condition} ORDER BY seq DESC LIMIT ?", [*values, limit]  # noqa: S608


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value)


def _handle_text(handle: Handle | None) -> str | None:
    return None if handle is None else json.dumps(asdict(handle))


def _handle(text: str | None) -> Handle | None:
    return None if text is None else Handle(**json.loads(text))
