"""What people may ask for and this version does not have: said plainly, instead of a bare 404."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from common.errors import NotFound
from service.keys import PARTS

_SIMPLETUNER = "the SimpleTuner API (/api/…) is not in this version"
_FLUX = "the Flux Train API is not in this version"


def _absent(sentence: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise NotFound(f"{request.method} {request.path}: {sentence}")

    return handler


def _of_job(action: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        await request.app[PARTS].store.job(request.match_info["job_id"])
        raise NotFound(f"{action} is not in this version")

    return handler


ROUTES = (
    web.post("/train/{job_id}/clone", _of_job("clone")),
    web.get("/usage", _absent("usage is not in this version")),
    web.route("*", "/webhooks", _absent("endpoints beyond a job's own hooks are not in this version")),
    web.route("*", "/webhooks/{rest:.*}", _absent("endpoints beyond a job's own hooks are not in this version")),
    web.route("*", "/api", _absent(_SIMPLETUNER)),
    web.route("*", "/api/{rest:.*}", _absent(_SIMPLETUNER)),
    *(
        web.route("*", path, _absent(_FLUX))
        for path in (
            "/download-images",
            "/caption-images",
            "/create-dataset-config",
            "/run",
            "/status/{run_id}",
            "/logs/{run_id}",
            "/health",
        )
    ),
)
