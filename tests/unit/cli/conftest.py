"""A tiny real service for the command line: it keeps documents, and a job's events are what a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from trainyard.cli import main

EXAMINED: dict[str, Any] = {
    "data": {
        "rows": 1200,
        "tokens": 34_567,
        "truncated_share": 0.025,
        "longest_rows": [{"place": "rows.jsonl:7", "tokens": 900}],
        "examples": [
            {"place": "rows.jsonl:1", "tokens": ["Hi", "\n", "there", "\x1b[2J"], "loss_mask": [0, 0, 1, 1], "text": ""}
        ],
    },
    "model": {"parameters": 1000, "trainable_parameters": 25, "trainable_modules": ["layers.*.q_proj"]},
    "memory": {
        "estimate_bytes": 3 << 30,
        "available_bytes": 8 << 30,
        "parts": {"logits": 500 << 20, "frozen_weights": 2 << 30, "none": 0},
    },
    "steps": 450,
}


class TinyService:
    """`statuses` are the events of every job; `hold` keeps a stream open after the last of them."""

    def __init__(self) -> None:
        self.statuses = ["queued", "running", "succeeded"]
        self.hold = False
        self.jobs: dict[str, dict[str, Any]] = {}
        self.bodies: list[bytes] = []
        self.streaming = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/train", self.submit)
        app.router.add_post("/train/validate", self.validate)
        app.router.add_get("/train", self.list)
        app.router.add_get("/train/{id}", self.show)
        app.router.add_post("/train/{id}/cancel", self.cancel)
        for call in ("pause", "resume", "checkpoint"):
            app.router.add_post(f"/train/{{id}}/{call}", self.steer)
        app.router.add_patch("/train/{id}", self.steer)
        app.router.add_get("/train/{id}/events", self.events)
        app.router.add_get("/train/{id}/logs", self.logs)
        app.router.add_get("/backends", self.backends)
        return app

    def add(self, job_id: str, status: str | None = None) -> dict[str, Any]:
        job = dict.fromkeys(("phase", "detail", "reason", "progress", "started_at", "ended_at", "dashboard_url"))
        job |= {"job_id": job_id, "status": status or self.statuses[-1], "backend": "simulated", "attempt": 1}
        job |= {"backend_job_id": None, "priority": 0, "labels": {"team": "a"}, "last_event_id": 3, "warnings": []}
        job |= {"created_at": "2026-01-02T03:04:05.000006Z"}
        return self.jobs.setdefault(job_id, job)

    async def submit(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        document = json.loads(self.bodies[-1])
        if "base_model" not in document:
            return problem(
                400, "invalid_request", [("base_model", "is required"), ("datasets[0]", "must be an object")]
            )
        status = 200 if document["job_id"] in self.jobs else 201
        job = self.add(document["job_id"], "queued") | {"warnings": [{"path": "basemodel", "message": "unknown"}]}
        self.jobs[document["job_id"]]["status"] = self.statuses[-1]
        return web.json_response(job, status=status)

    async def validate(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        found = {"ok": True, "warnings": [], "job_spec": {}, "strict": request.query.get("strict")}
        return web.json_response(found | (EXAMINED if request.query.get("deep") == "true" else {}))

    async def list(self, request: web.Request) -> web.Response:
        return web.json_response({"jobs": [*self.jobs.values()], "next_cursor": None})

    async def show(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        return problem(404, "not_found", []) if job is None else web.json_response(job)

    async def cancel(self, request: web.Request) -> web.Response:
        job = self.jobs[request.match_info["id"]]
        return web.json_response(job | {"status": "running", "phase": "stopping"}, status=202)

    async def steer(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        call = request.path.rpartition("/")[2]
        if call == "checkpoint":
            return web.json_response({"command_id": "c1"}, status=202)
        phases = {"pause": ("running", "pausing"), "resume": ("queued", "waiting")}
        status, phase = phases.get(call, ("running", "training"))
        return web.json_response(self.jobs[request.match_info["id"]] | {"status": status, "phase": phase}, status=202)

    async def events(self, request: web.Request) -> web.StreamResponse:
        events = [event(n, status) for n, status in enumerate(self.statuses, 1)]
        if request.headers["Accept"] != "text/event-stream":
            return web.json_response({"events": events, "next_after": None})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"".join(f"id: {e['id']}\ndata: {json.dumps(e)}\n\n".encode() for e in events))
        self.streaming.set()
        while self.hold:
            await asyncio.sleep(0.01)
        return response

    async def logs(self, request: web.Request) -> web.Response:
        body = b"one\ntwo\n"[int(request.query.get("offset", "0")) :]
        return web.Response(body=body, headers={"X-Log-Offset": "8"})

    async def backends(self, _: web.Request) -> web.Response:
        good = {
            "name": "local",
            "version": "1",
            "default": True,
            "healthy": True,
            "reason": None,
            "capabilities": ["logs"],
        }
        good |= {"capacity": {"free": {"gpu": 1}, "total": {"gpu": 2}}}
        bad = {"name": "mine", "version": None, "default": False, "healthy": False, "reason": "no module x"}
        return web.json_response({"backends": [good, bad | {"capabilities": [], "capacity": None}]})


def event(n: int, status: str) -> dict[str, Any]:
    kind = "progress" if status == "running" else status
    data = {"step": n, "total_steps": 9, "loss": 2.5} if kind == "progress" else {}
    data |= {"reason": "data", "log_tail": "a\nb\x1b[2J"} if kind == "failed" else {}
    time = "2026-01-02T03:04:05.000006Z"
    return {"id": n, "type": f"job.{kind}", "status": status, "message": f"is {status}", "time": time, "data": data}


def problem(status: int, code: str, errors: list[tuple[str, str]]) -> web.Response:
    body = {"status": status, "detail": f"detail of {code}", "error": {"code": code}}
    body |= {"errors": [{"path": path, "message": message} for path, message in errors]}
    return web.json_response(body, status=status, content_type="application/problem+json")


@pytest.fixture
async def service(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TinyService]:
    """Runs it, and lets TRAINYARD_URL name it."""
    tiny = TinyService()
    server = TestServer(tiny.app())
    await server.start_server()
    monkeypatch.setenv("TRAINYARD_URL", str(server.make_url("/")))
    yield tiny
    tiny.hold = False
    await server.close()


@pytest.fixture
def trainyard() -> Callable[..., Awaitable[int]]:
    """The command line, in a thread of its own."""

    async def run(*argv: str) -> int:
        return await asyncio.to_thread(main, argv)

    return run
