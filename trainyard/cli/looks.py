"""Commands that look at jobs and backends, and the one that ends a job."""

import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainyard.cli.exits import Exit
from trainyard.cli.output import local_time, plain, table, write, write_json
from trainyard.cli.progress import progress_line
from trainyard.cli.session import answered, command, converse
from trainyard.client import ENDS, PAGE, Client, Document


def list_jobs(args: Namespace) -> int:
    """A table of jobs; with `--json` the pages as they come."""

    async def work(client: Client) -> int:
        jobs: list[Document] = []
        left, cursor = args.limit, None
        while left > 0:
            page = await client.page(
                status=args.status, backend=args.backend, label=args.label, limit=min(left, PAGE), cursor=cursor
            )
            if args.json:
                write_json(page)
            jobs += page["jobs"]
            left, cursor = left - len(page["jobs"]), page["next_cursor"]
            if cursor is None:
                break
        if not args.json:
            _write_jobs(jobs, more=cursor is not None)
        return Exit.OK

    return converse(args, work)


def show(args: Namespace) -> int:
    """A job, key by key."""
    return answered(
        args,
        lambda client: client.show(args.job),
        lambda job: (f"{key:<12} {plain(value)}" for key, value in _facts(job)),
    )


def cancel(args: Namespace) -> int:
    """Wish a job's end."""

    def said(job: Document) -> Iterator[str]:
        over = job["status"] in ENDS
        yield f"{job['job_id']}: {job['status'] if over else 'stopping'}"
        if not over:
            yield f"wait for its end: {command(args, 'events --follow ' + job['job_id'])}"

    return answered(args, lambda client: client.cancel(args.job), said)


def backends(args: Namespace) -> int:
    """A table of backends, broken ones with their reason."""
    head = ("BACKEND", "VERSION", "FREE", "STATE", "CAN")
    return answered(
        args, Client.backends, lambda answer: table(head, [_backend_row(one) for one in answer["backends"]], _width())
    )


def _write_jobs(jobs: Sequence[Document], *, more: bool) -> None:
    rows = [(job["job_id"], _state(job), job["backend"], local_time(job["created_at"]), _summary(job)) for job in jobs]
    write("\n".join(table(("JOB", "STATUS", "BACKEND", "CREATED", ""), rows, _width())))
    if more:
        write(f"(the newest {len(jobs)}; --limit shows more)")


def _state(job: Document) -> str:
    return f"{job['status']}/{job['phase']}" if job["phase"] else str(job["status"])


def _summary(job: Document) -> str:
    if job["status"] in ENDS or not job["progress"]:
        return plain(job["reason"] or job["detail"] or "")
    return progress_line(job["progress"])


def _facts(job: Document) -> Iterator[tuple[str, object]]:
    yield "job", job["job_id"]
    yield "status", _state(job)
    for key in ("reason", "detail"):
        if job[key]:
            yield key, job[key]
    if job["progress"]:
        yield "progress", progress_line(job["progress"])
    yield "backend", job["backend"] + (f" ({job['backend_job_id']})" if job["backend_job_id"] else "")
    yield "attempt", job["attempt"]
    if job["priority"]:
        yield "priority", job["priority"]
    if job["labels"]:
        yield "labels", ", ".join(f"{key}={value}" for key, value in job["labels"].items())
    for key in ("created", "started", "ended"):
        if job[f"{key}_at"]:
            yield key, local_time(job[f"{key}_at"])
    yield from _wanted(job.get("metadata", {}).get("request", {}))
    if job["dashboard_url"]:
        yield "dashboard", job["dashboard_url"]
    yield "last event", job["last_event_id"]
    for warning in job["warnings"]:
        yield "warning", f"{warning['path']}: {warning['message']}"


def _wanted(request: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    places = (("model", "base_model", "model_name"), ("method", "customization", "method"))
    for name, part, key in (*places, ("output", "artifacts", "output_uri"), ("log", "artifacts", "log_uri")):
        value = (request.get(part) or {}).get(key)
        if value is not None:
            yield name, value


def _backend_row(backend: Document) -> Sequence[str]:
    name = backend["name"] + (" (default)" if backend["default"] else "")
    state = "ready" if backend["healthy"] else f"not ready: {plain(backend['reason'])}"
    can = ", ".join(backend["capabilities"] or ()) or "-"
    return name, plain(backend["version"] or "-"), _free(backend["capacity"] or {}), state, can


def _free(capacity: Mapping[str, Any]) -> str:
    """`gpu 1/2, cpu 1/1`; a dash for a backend that queues by itself."""
    free, total = capacity.get("free") or {}, capacity.get("total") or {}
    return ", ".join(f"{name} {count}/{total.get(name, '?')}" for name, count in free.items()) or "-"


def _width() -> int | None:
    """The terminal's width; what is piped is never cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
