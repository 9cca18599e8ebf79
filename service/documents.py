"""The documents that are served (contract train.md, 3)."""

import json
from collections.abc import Mapping
from typing import Any

from common.job import Phase, Status
from common.json_text import to_text
from service.store.base import JobRecord


def job_text(record: JobRecord, why_waiting: str | None = None) -> str:
    """The whole job document as JSON; its `metadata` is put in as it is stored, without being read."""
    light = to_text(job_document(record, why_waiting))
    spec = f'{record.spec[:-1]},"changes":{record.changes}}}'
    return f'{light[:-1]},"metadata":{{"request":{record.document},"job_spec":{spec}}}}}'


def job_document(record: JobRecord, why_waiting: str | None = None) -> dict[str, Any]:
    """The job document without `metadata`, as lists show it."""
    job = record.job
    path = f"/train/{job.job_id}"
    waits = job.status is Status.QUEUED and job.phase is Phase.WAITING and record.handle is None
    return {
        "job_id": job.job_id,
        "uid": job.uid,
        "backend": job.backend,
        "backend_job_id": job.backend_job_id,
        "status": job.status,
        "phase": job.phase,
        "detail": record.detail or (why_waiting if waits else None),
        "reason": job.reason,
        "attempt": job.attempt,
        "priority": job.priority,
        "labels": job.labels,
        "progress": job.progress,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "ended_at": job.ended_at,
        "last_event_id": job.last_event_id,
        "last_sequence": job.last_sequence,
        "dashboard_url": None,
        "links": {
            "self": path,
            "events": f"{path}/events",
            "logs": f"{path}/logs",
            "cancel": f"{path}/cancel",
        },
        "warnings": json.loads(record.warnings),
    }


def metric(event: Mapping[str, Any]) -> dict[str, Any]:
    """A reported step as `GET /train/{id}/metrics` and `metrics.jsonl` show it."""
    return {"step": None, **event["data"], "time": event["time"], "attempt": event["attempt"]}
