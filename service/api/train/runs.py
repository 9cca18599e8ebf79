"""`/train/{id}/attempts/{n}/events`: what a run posts of itself, opened by its own token alone."""

from aiohttp import web

from service.api.bodies import answer, read_json
from service.keys import PARTS
from service.operations.tell import run_of_token, tell, tell_kubeflow
from service.store.base import JobRecord


async def post_events(request: web.Request) -> web.Response:
    """`POST …/events`: a list of events; 200 with how far they are taken, and the commands for the run."""
    record, attempt = await _admit(request)
    items, size = await read_json(request)
    return answer(await tell(request.app[PARTS], record, attempt, items, size))


async def post_kubeflow(request: web.Request) -> web.Response:
    """`POST …/events/kubeflow`: a status of transformers' KubeflowCallback; 200 and the same body."""
    record, attempt = await _admit(request)
    status, _ = await read_json(request)
    await tell_kubeflow(request.app[PARTS], record, attempt, status)
    return answer(status)


async def _admit(request: web.Request) -> tuple[JobRecord, int]:
    """The token is asked for before the body is read."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    given = token.strip() if scheme.lower() == "bearer" else None
    number = request.match_info["attempt"]
    attempt = int(number) if number.isdecimal() and len(number) < 10 else 0
    return await run_of_token(request.app[PARTS], request.match_info["job_id"], attempt, given), attempt


ROUTES = (
    web.post("/train/{job_id}/attempts/{attempt}/events", post_events),
    web.post("/train/{job_id}/attempts/{attempt}/events/kubeflow", post_kubeflow),
)
