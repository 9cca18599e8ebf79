"""The service itself: backends, health, readiness, numbers."""

import asyncio
from typing import Any

import structlog
from aiohttp import web

from common.backend import BaseTrainerBackend, Capacity
from common.errors import BackendUnavailable, TrainyardError
from schemas.engine_options import ENGINES, options_with
from schemas.json_schema import json_schema
from service.api.bodies import answer
from service.api.query import refused
from service.asked import capacity_of
from service.keys import PARTS
from service.parts import Parts

log = structlog.get_logger(__name__)

_CAPACITY_SECONDS = 5.0


async def backends(request: web.Request) -> web.Response:
    """`GET /backends`: what is installed, broken plug-ins with their reason; keys are those beside one engine's."""
    parts, engine = request.app[PARTS], request.query.get("engine")
    if engine is not None and engine not in ENGINES:
        raise refused("engine", f"must be one of {', '.join(ENGINES)}, got {engine[:80]!r}")
    working = await asyncio.gather(*(_entry(parts, backend, engine) for backend in parts.registry.loaded()))
    broken = [_row(parts, b.name, version=b.version, healthy=False, reason=b.reason) for b in parts.registry.broken()]
    return answer({"backends": sorted([*working, *broken], key=lambda row: str(row["name"]))})


async def _entry(parts: Parts, backend: BaseTrainerBackend, engine: str | None) -> dict[str, Any]:
    capacity, reason = await _capacity(parts, backend)
    return _row(
        parts,
        backend.name,
        version=parts.registry.version(backend.name),
        simulated=backend.simulated,
        healthy=reason is None,
        reason=reason,
        capabilities=sorted(backend.capabilities),
        capacity={"total": dict(capacity.total), "free": capacity.free, "devices": list(capacity.devices)},
        options_schema=json_schema(options_with(backend.Options, engine)),
    )


def _row(parts: Parts, name: str, **values: object) -> dict[str, Any]:
    return {
        "name": name,
        "version": None,
        "default": name == parts.settings.backend,
        "simulated": False,
        "healthy": False,
        "reason": None,
        "capabilities": [],
        "capacity": None,
        "options_schema": None,
    } | values


async def _capacity(parts: Parts, backend: BaseTrainerBackend) -> tuple[Capacity, str | None]:
    try:
        async with asyncio.timeout(_CAPACITY_SECONDS):
            capacity = await capacity_of(backend)
    except BackendUnavailable as e:
        return Capacity(), e.message
    except TimeoutError:
        return Capacity(), f"does not answer within {_CAPACITY_SECONDS:.0f} s"
    except Exception as e:  # a backend of somebody else's may raise anything; the others are still listed
        log.exception("a backend's capacity can't be asked", backend=backend.name)
        return Capacity(), f"its capacity can't be asked: {type(e).__name__}: {e}"
    return capacity, capacity.reason or parts.registry.unavailable(backend.name)


async def healthz(_request: web.Request) -> web.Response:
    """`GET /healthz`: the process answers."""
    return answer({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """`GET /readyz`: 200 when jobs can be taken, else 503; each check with its reason."""
    parts = request.app[PARTS]
    checks = {
        "store": await _store(parts),
        "disk": await _disk(parts),
        "backend": await _default_backend(parts),
        "tasks": f"{', '.join(parts.dead)} died" if parts.dead else None,
        "serving": "the service is stopping" if parts.stopping else None,
    }
    ready = all(reason is None for reason in checks.values())
    shown = {name: {"ok": reason is None, "reason": reason} for name, reason in checks.items()}
    return answer({"ready": ready, "checks": shown}, 200 if ready else 503)


async def _store(parts: Parts) -> str | None:
    try:
        async with asyncio.timeout(_CAPACITY_SECONDS):
            await parts.store.check()
    except TrainyardError as e:
        return e.message
    except TimeoutError:
        return "the database does not answer"
    return None


async def _disk(parts: Parts) -> str | None:
    free = await parts.free_bytes()
    least = parts.settings.min_free_bytes
    return None if free >= least else f"{free >> 20} MiB free, {least >> 20} MiB are kept free"


async def _default_backend(parts: Parts) -> str | None:
    try:
        backend = parts.registry.get(parts.settings.backend)
    except TrainyardError as e:
        return e.message
    return (await _capacity(parts, backend))[1]


async def metrics(request: web.Request) -> web.Response:
    """`GET /metrics`: Prometheus text."""
    parts = request.app[PARTS]
    counts = await parts.counts()
    numbers = parts.metrics
    for status in ("queued", "running", "succeeded", "failed", "cancelled"):
        numbers.jobs.labels(status).set(counts.jobs.get(status, 0))
    for state in ("pending", "dead"):
        numbers.deliveries.labels(state).set(counts.deliveries.get(state, 0))
    numbers.writes_waiting.set(parts.store.writes_waiting)
    numbers.subscribers.set(parts.subscribers)
    numbers.newest_event.set(counts.events)
    return web.Response(body=numbers.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


ROUTES = (
    web.get("/backends", backends),
    web.get("/healthz", healthz),
    web.get("/readyz", readyz),
    web.get("/metrics", metrics),
)
