"""Set an ended or paused job going again, from its newest checkpoint, as it was or with other parameters."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve

from common.backend import BaseTrainerBackend
from common.clock import new_id
from common.errors import Conflict, InvalidRequest, NotSupported
from common.event import JobChanged, JobQueued
from common.job import Phase, Status, Wish
from common.json_text import to_text
from schemas.fields import shape_of
from schemas.resume import ResumeRequest
from schemas.secrets import seal
from schemas.trail import nearest
from schemas.train import Resources, TuningParameters
from schemas.values import MASK, FieldError
from service.answers import taken_up
from service.checkpoints import newest
from service.operations.accept import Checked, check
from service.parts import Parts
from service.revisions import document_of, flat, put
from service.specs import write_spec, write_warnings
from service.store.base import Changes, JobRecord, Scope

_PARTS = {"tuning_parameters": TuningParameters, "resources": Resources}


async def resume(parts: Parts, job_id: str, scope: Scope, wanted: ResumeRequest) -> JobRecord:
    """The job, queued again. Raises `NotFound`, `InvalidRequest`, and `Conflict` for a job that can't be resumed."""
    record = await parts.store.job(job_id, scope)
    _may_resume(record)
    values = _values(wanted)
    if errors := list(_unknown(values)):
        raise InvalidRequest(errors)
    saved = await newest(parts.store, record.job.uid)
    step = None if saved is None else int(saved["step"])
    told, changes = taken_up(record, step or 0)
    if values:
        changes.append({"id": new_id(), "step": step or 0, "values": values, "resume": True})
    document = put(document_of(record.document, changes), {"backend": wanted.backend or record.job.backend})
    secrets = {path: secret.reveal() for path, secret in wanted.secrets.items()}
    checked = await asyncio.to_thread(_check, parts, document, secrets)
    if "resume" not in checked.backend.capabilities:
        raise NotSupported(f"backend {checked.backend.name!r} can't go on with a job; submit it under a new job_id")
    if saved is not None:
        _check_reads(checked.backend, record.job.backend, saved)
    stored = Changes(
        wanted=Wish.RUN,
        lane=f"{checked.backend.name}/{checked.spec.lane}",
        spec=write_spec(checked.spec),
        warnings=write_warnings(checked.warnings),
        changes=to_text(changes),
        secrets=secrets,
    )
    bodies = [JobQueued(resumed_from=step, changes=values or None), *_still_new(told, values)]
    await parts.store.append(record.job.uid, bodies, changes=stored, if_version=record.version, urgent=True)
    return await parts.store.job_by_uid(record.job.uid)


def _still_new(told: Sequence[JobChanged], values: Mapping[str, Any]) -> Iterator[JobChanged]:
    """Changes that no run had answered, without what the resume itself gives another value."""
    for body in told:
        if new := {path: value for path, value in body.new.items() if path not in values}:
            yield evolve(body, new=new, old={path: body.old[path] for path in new})


def _may_resume(record: JobRecord) -> None:
    job = record.job
    if job.status in (Status.FAILED, Status.CANCELLED) or job.phase is Phase.PAUSED:
        return
    if job.status is Status.SUCCEEDED:
        raise Conflict(
            f"job {job.job_id!r} has succeeded; to train on from its result, submit a document under a new job_id that "
            "names the result as base_model.model_name (a clone, which needs a new job_id too, is not in this version)"
        )
    state = f"{job.status} ({job.phase})"
    raise Conflict(f"job {job.job_id!r} is {state}; only a failed, cancelled or paused job can be resumed")


def _check_reads(backend: BaseTrainerBackend, before: str, saved: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` where a job changes its backend and the other one can't get at its checkpoint."""
    if backend.name != before and not backend.can_read(uri := str(saved["uri"])):
        message = f"{backend.name!r} can't read the checkpoint of step {saved['step']}, {uri}; {before!r} can"
        raise InvalidRequest([FieldError("backend", message)])


def _values(wanted: ResumeRequest) -> dict[str, Any]:
    patch = {"tuning_parameters": wanted.tuning_parameters, "resources": wanted.resources}
    return ({"backend": wanted.backend} if wanted.backend else {}) | flat({k: v for k, v in patch.items() if v})


def _unknown(values: Mapping[str, Any]) -> Iterator[FieldError]:
    """A resume is short and sent on purpose: what nobody knows is an error there."""
    for path in values:
        part, _, name = path.partition(".")
        if part in _PARTS and name not in (known := shape_of(_PARTS[part]).fields):
            near = nearest(name, known)
            yield FieldError(path, "is unknown" + (f"; did you mean {near!r}?" if near else ""))


def _check(parts: Parts, document: dict[str, Any], secrets: Mapping[str, str]) -> Checked:
    """The document that the next run is built from, with masks where secrets are."""
    sealed = seal(_with_secrets(document, secrets))
    if strange := [path for path in secrets if sealed.values.get(path) != secrets[path]]:
        message = "is no secret field of this job's document, as base_model.huggingface_token is"
        raise InvalidRequest([FieldError(f"secrets.{path}", message) for path in strange])
    return check(parts, sealed.document, masked=True)


def _with_secrets(document: dict[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    if masked := [path for path, value in secrets.items() if MASK in value]:
        raise InvalidRequest([FieldError(f"secrets.{path}", "is the mask of a secret, not one") for path in masked])
    for path, value in secrets.items():
        try:
            document = put(document, {path: value})
        except (KeyError, AttributeError) as e:
            raise InvalidRequest([FieldError(f"secrets.{path}", "names no place in this job's document")]) from e
    return document
