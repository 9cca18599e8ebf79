"""Change a job that has not ended: a running one at its next step, a waiting one at once."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import evolve

from common.clock import new_id
from common.errors import Conflict, InvalidRequest, NotSupported
from common.event import JobChanged
from common.job import Phase
from common.json_text import to_text
from schemas.values import FieldError
from service.operations.accept import Checked, check
from service.operations.wishes import TRIES
from service.parts import Parts
from service.revisions import Entry, document_of, entries, flat, put, value_at
from service.specs import read_spec, write_spec
from service.store.base import Changes, JobRecord, Scope

_RUN = tuple(
    f"tuning_parameters.{name}"
    for name in ("learning_rate", "max_steps", "num_epochs", "save_steps", "logging_steps", "eval_steps")
)
_DEADLINE = "resources.max_duration_minutes"
_OWN = ("priority", "labels")


async def change(parts: Parts, job_id: str, scope: Scope, patch: Mapping[str, Any]) -> JobRecord:
    """The job after the change is stored; it holds when `job.changed` is told.

    Raises `NotFound`, `InvalidRequest` for a path or value that is not allowed, `Conflict` for an ended job,
    `NotSupported` where a running job's backend can't.
    """
    own = {name: value for name, value in patch.items() if name in _OWN}
    values = flat({name: value for name, value in patch.items() if name not in _OWN})
    if errors := list(_refused(values, patch)):
        raise InvalidRequest(errors)
    for _ in range(TRIES):
        record = await parts.store.job(job_id, scope)
        if record.job.ended:
            raise Conflict(f"job {job_id!r} is {record.job.status}; what has ended can't be changed")
        if (changed := await _changed(parts, record, own, values)) is not None:
            return changed
        await asyncio.sleep(0)
    raise Conflict(f"job {job_id!r} changes too fast; send the request again")


def _refused(values: Mapping[str, Any], patch: Mapping[str, Any]) -> Iterator[FieldError]:
    if not patch:
        yield FieldError("$", f"must have at least one of {', '.join((*_OWN, _DEADLINE, *_RUN))}")
    for path, value in values.items():
        if path not in (_DEADLINE, *_RUN):
            allowed = ", ".join((*_OWN, _DEADLINE, *_RUN))
            yield FieldError(path, f"can't be changed after submission; what can: {allowed}")
        elif value is None and path not in ("tuning_parameters.save_steps", "tuning_parameters.eval_steps"):
            yield FieldError(path, "must have a value")


async def _changed(
    parts: Parts, record: JobRecord, own: Mapping[str, Any], values: Mapping[str, Any]
) -> JobRecord | None:
    """Store it, and pass it to the run where there is one; None when the job moved on meanwhile."""
    told = {**own, **({"labels": _labels(record, own["labels"])} if "labels" in own else {})}
    uid = record.job.uid
    try:
        if not values:
            await _checked(parts, record, told)
            return await _stored(parts, record, told, Changes())
        if record.job.phase is Phase.PAUSED:
            return await _waiting(parts, record, told, values)
        if record.handle is None and await parts.dispatch.withdraw(record):
            try:
                return await _waiting(parts, record, told, values)
            finally:
                parts.dispatch.settle(uid)
        return await _running(parts, record, told, values)
    except NotSupported:
        raise
    except Conflict:
        return None


async def _waiting(parts: Parts, record: JobRecord, told: Mapping[str, Any], values: Mapping[str, Any]) -> JobRecord:
    """Nothing runs: the next run begins with it."""
    step = (record.job.progress or {}).get("step")
    entry: Entry = {"id": new_id(), "step": step if isinstance(step, int) else 0, "values": dict(values)}
    changes = [*entries(record.changes), entry]
    await _checked(parts, record, {**told, **values})
    spec = (await _checked(parts, evolve(record, changes=to_text(changes)), told)).spec
    stored = Changes(changes=to_text(changes), spec=write_spec(spec))
    return await _stored(parts, record, {**told, **values}, stored)


async def _running(parts: Parts, record: JobRecord, told: Mapping[str, Any], values: Mapping[str, Any]) -> JobRecord:
    """The run takes it at its next step, and its answer is told."""
    checked = await _checked(parts, record, {**told, **values})
    if "change" not in checked.backend.capabilities:
        raise NotSupported(f"backend {record.job.backend!r} can't change a running job")
    entry: Entry = {"id": new_id(), "step": None, "values": dict(values)}
    changed = await _stored(parts, record, told, Changes(changes=to_text([*entries(record.changes), entry])))
    await parts.watch.change(record.job.uid, [entry])
    return changed


async def _checked(parts: Parts, record: JobRecord, values: Mapping[str, Any]) -> Checked:
    document = put(document_of(record.document, entries(record.changes)), {"backend": record.job.backend})
    return await asyncio.to_thread(check, parts, put(document, values), masked=True)


async def _stored(parts: Parts, record: JobRecord, told: Mapping[str, Any], stored: Changes) -> JobRecord:
    bodies = [JobChanged(request=told, old=_old(record, told), new=told)] if told else []
    job = await parts.store.append(record.job.uid, bodies, changes=stored, if_version=record.version, urgent=True)
    return evolve(record, job=job, changes=stored.changes or record.changes)


def _labels(record: JobRecord, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = {**record.job.labels, **patch}
    return {key: value for key, value in merged.items() if value is not None}


def _old(record: JobRecord, told: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"priority": record.job.priority, "labels": dict(record.job.labels)}
    request, known = read_spec(record.spec).request, entries(record.changes)
    return {name: own[name] if name in own else value_at(request, known, name) for name in told}
