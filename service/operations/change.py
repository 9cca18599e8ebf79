"""Change a job that has not ended: a running one at its next step, a waiting one at once."""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve

from common.backend import JobSpec
from common.clock import new_id
from common.errors import Conflict, InvalidRequest, NotSupported
from common.event import JobChanged
from common.job import Phase
from common.json_text import to_text
from schemas.values import FieldError
from service.answers import reported_step, taken_up
from service.checkpoints import newest_step
from service.operations.accept import Checked, check
from service.operations.wishes import TRIES
from service.parts import Parts
from service.revisions import DEADLINE, Entry, document_of, entries, flat, put, value_at
from service.specs import read_spec, write_spec, write_warnings
from service.store.base import Changes, JobRecord, Scope

_RUN = tuple(
    f"tuning_parameters.{name}"
    for name in ("learning_rate", "max_steps", "num_epochs", "save_steps", "logging_steps", "eval_steps")
)
_OWN = ("priority", "labels")
#: What only runs of this objective take of a change; TRL's count their steps once.
_COUNTING = "sft"
_COUNTED = frozenset({"tuning_parameters.max_steps", "tuning_parameters.num_epochs"})
_FIRST_PAUSE = 0.005
_chance = random.Random()


async def change(parts: Parts, job_id: str, scope: Scope, patch: Mapping[str, Any]) -> JobRecord:
    """The job after the change is stored; it holds when `job.changed` is told.

    Raises `NotFound`, `InvalidRequest` for a path or value that is not allowed, `Conflict` for an ended job,
    `NotSupported` where a running job's backend can't.
    """
    own = {name: value for name, value in patch.items() if name in _OWN}
    values = flat({name: value for name, value in patch.items() if name not in _OWN})
    if errors := list(_refused(values, patch)):
        raise InvalidRequest(errors)
    for n in range(TRIES):
        record = await parts.store.job(job_id, scope)
        if record.job.ended:
            raise Conflict(f"job {job_id!r} is {record.job.status}; what has ended can't be changed")
        if (changed := await _changed(parts, record, own, values)) is not None:
            return changed
        await asyncio.sleep(_FIRST_PAUSE * 2**n * _chance.uniform(0.5, 1.5))  # else all who met would meet again
    raise Conflict(f"job {job_id!r} changes too fast; send the request again")


def _refused(values: Mapping[str, Any], patch: Mapping[str, Any]) -> Iterator[FieldError]:
    if not patch:
        yield FieldError("$", f"must have at least one of {', '.join((*_OWN, DEADLINE, *_RUN))}")
    for path, value in values.items():
        if path not in (DEADLINE, *_RUN):
            allowed = ", ".join((*_OWN, DEADLINE, *_RUN))
            yield FieldError(path, f"can't be changed after submission; what can: {allowed}")
        elif value is None and path not in ("tuning_parameters.save_steps", "tuning_parameters.eval_steps"):
            yield FieldError(path, "must have a value")


async def _changed(
    parts: Parts, record: JobRecord, own: Mapping[str, Any], values: Mapping[str, Any]
) -> JobRecord | None:
    """Store it, and pass it to the run where there is one; None when the job moved on meanwhile."""
    told = {name: _own(record, name, value) for name, value in own.items()}
    uid = record.job.uid
    try:
        if not values:
            await _checked(parts, record, told)
            return await _stored(parts, record, told, Changes(), step=await _present_step(parts, record))
        if record.job.phase is Phase.PAUSED:
            return await _waiting(parts, record, told, values)
        if record.handle is None and await parts.handover.withdraw(record):
            try:
                return await _waiting(parts, record, told, values)
            finally:
                parts.handover.settle(uid)
        return await _running(parts, record, told, values)
    except NotSupported:
        raise
    except Conflict:
        return None


async def _waiting(parts: Parts, record: JobRecord, told: Mapping[str, Any], values: Mapping[str, Any]) -> JobRecord:
    """Nothing runs: the next run is built from it."""
    step = await newest_step(parts.store, record.job.uid) or 0
    unanswered, known = taken_up(record, step)
    checked = await _checked(parts, record, {**told, **values})
    entry: Entry = {"id": new_id(), "step": step, "values": dict(values)} | ({"resume": True} if checked else {})
    stored = Changes(
        changes=to_text([*known, entry]),
        spec=write_spec(checked.spec) if checked else None,
        warnings=write_warnings(checked.warnings) if checked else None,
    )
    before = evolve(record, changes=to_text(known))
    return await _stored(parts, before, {**told, **values}, stored, step=step, before=unanswered)


async def _running(parts: Parts, record: JobRecord, told: Mapping[str, Any], values: Mapping[str, Any]) -> JobRecord:
    """The run takes it at its next step, and its answer is told."""
    await _checked(parts, record, {**told, **values})
    backend = parts.registry.get(record.job.backend)
    if "change" not in backend.capabilities:
        if record.handle is None:
            raise Conflict(f"job {record.job.job_id!r} is being handed over, or changed by another request")
        raise NotSupported(f"backend {record.job.backend!r} can't change a running job")
    refusal = _refusal(read_spec(record.spec), values)
    if record.handle is not None and refusal is None:
        refusal = backend.refuses_change(record.handle, values)
    if refusal is not None:
        raise NotSupported(refusal)
    new = _unanswered(values)
    stored = Changes(changes=to_text([*entries(record.changes), *new]))
    changed = await _stored(parts, record, told, stored, step=await _present_step(parts, record))
    parts.watch.orders.change(record.job.uid, new)
    return changed


def _refusal(spec: JobSpec, values: Mapping[str, Any]) -> str | None:
    """What the text engine's runs are known to refuse."""
    tuning: Any = spec.request.get("tuning_parameters") or {}
    objective = tuning.get("objective", _COUNTING)
    paths = ", ".join(path for path in values if path in _COUNTED)
    if spec.engine != "text" or objective == _COUNTING or not paths:
        return None
    return f"{paths}: stays as it is in a run with objective {objective!r}; pause the job, change it, then resume it"


def _unanswered(values: Mapping[str, Any]) -> list[Entry]:
    """What the run will answer; and apart from it the deadline, which is its guard's."""
    guards = {path: value for path, value in values.items() if path == DEADLINE}
    runs = {path: value for path, value in values.items() if path != DEADLINE}
    return [{"id": new_id(), "step": None, "values": part} for part in (guards, runs) if part]


async def _present_step(parts: Parts, record: JobRecord) -> int:
    """The step that a change which holds at once holds from."""
    step = reported_step(record.job) if record.handle else await newest_step(parts.store, record.job.uid)
    return step or 0


async def _checked(parts: Parts, record: JobRecord, values: Mapping[str, Any]) -> Checked | None:
    """The document with these values; None where it is wrong, but no more than without them (a file is gone)."""
    document = put(document_of(record.document, entries(record.changes)), {"backend": record.job.backend})
    return await asyncio.to_thread(_read_again, parts, document, values)


def _read_again(parts: Parts, document: Mapping[str, Any], values: Mapping[str, Any]) -> Checked | None:
    try:
        return check(parts, put(document, values), masked=True)
    except InvalidRequest as e:
        known = _errors(parts, document)
        if errors := [error for error in e.errors if error not in known]:
            raise InvalidRequest(errors) from e
        return None


def _errors(parts: Parts, document: Mapping[str, Any]) -> Sequence[FieldError]:
    try:
        check(parts, document, masked=True)
    except InvalidRequest as e:
        return e.errors
    return ()


async def _stored(
    parts: Parts,
    record: JobRecord,
    told: Mapping[str, Any],
    stored: Changes,
    *,
    step: int,
    before: Sequence[JobChanged] = (),
) -> JobRecord:
    own = [JobChanged(request=told, old=_old(record, told), new=told, step=step)] if told else []
    bodies = [*before, *own]
    job = await parts.store.append(record.job.uid, bodies, changes=stored, if_version=record.version, urgent=True)
    return evolve(
        record,
        job=job,
        spec=stored.spec or record.spec,
        warnings=stored.warnings or record.warnings,
        changes=stored.changes or record.changes,
    )


def _own(record: JobRecord, name: str, patch: Any) -> Any:
    """What a merge patch makes of `priority` or `labels`; null takes it away."""
    if patch is None:
        return {} if name == "labels" else 0
    if name == "priority" or not isinstance(patch, Mapping):
        return patch
    merged = {**record.job.labels, **patch}
    return {key: value for key, value in merged.items() if value is not None}


def _old(record: JobRecord, told: Mapping[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"priority": record.job.priority, "labels": dict(record.job.labels)}
    request, known = read_spec(record.spec).request, entries(record.changes)
    return {name: own[name] if name in own else value_at(request, known, name) for name in told}
