"""A job from its document to its end: posted, followed by SSE, told by webhook, and cancelled where that is wanted."""

import asyncio
import contextlib

from attrs import define, field, frozen
from documents import Document
from processes import DemoError
from receiver import Receiver
from screen import Screen

from trainyard.client import ENDS, CallError, Client

_WEBHOOK_WITHIN, _ENDS_WITHIN = 10.0, 25.0
_LAST_LINES = 20


@frozen
class Trained:
    """What came of a job."""

    job_id: str
    final: str
    loss_before: float
    loss_after: float


@define
class _Told:
    """What a job's events said, for later."""

    screen: Screen
    losses: list[float] = field(factory=list)
    final: str = ""

    def __call__(self, event: Document) -> None:
        self.screen.event(event)
        data = event["data"]
        if event["type"] == "job.validation":
            self.losses.append(float(data["metrics"]["eval_loss"]))
        self.final = data.get("final_uri") or self.final


async def train(client: Client, screen: Screen, receiver: Receiver, document: Document, what: str) -> Trained:
    """Submit a job and show it to its end. Raises `DemoError`, with the end of its log, when it does not succeed."""
    job_id = document["job_id"]
    with screen.job(job_id, what):
        job = await _submitted(client, document)
        for warning in job["warnings"]:
            screen.say(f"warning: {warning['path']}: {warning['message']}")
        told = _Told(screen)
        job = await client.follow(job_id, told)
        await _delivered(receiver, job)
    if job["status"] != "succeeded":
        raise DemoError(
            f"{job_id} {job['status']} ({job['reason']}); the end of its log:\n{await _log(client, job_id)}"
        )
    if not told.final or len(told.losses) < 2:
        raise DemoError(f"{job_id} succeeded, but told neither its result nor its held-out loss before and after")
    return Trained(job_id, told.final, told.losses[0], told.losses[-1])


async def end_jobs(client: Client, screen: Screen, label: str) -> None:
    """Cancel what still runs of the jobs with a label, and wait for its end."""
    live = [job["job_id"] async for job in client.list(label=[label]) if job["status"] not in ENDS]
    for job_id in live:
        screen.say(f"cancelling {job_id} …")
        with contextlib.suppress(CallError):  # it may have ended this moment
            await client.cancel(job_id)
    try:
        async with asyncio.timeout(_ENDS_WITHIN):
            for job_id in live:
                screen.say(f"{job_id}: {(await client.follow(job_id))['status']}")
    except TimeoutError as e:
        raise DemoError(f"{', '.join(live)}: still not ended after {_ENDS_WITHIN:g} s") from e


async def _submitted(client: Client, document: Document) -> Document:
    """Submit, to the end even when the demo is interrupted: a job that nobody knows of could not be cancelled."""
    call = asyncio.ensure_future(client.submit(document, strict=True))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise


async def _delivered(receiver: Receiver, job: Document) -> None:
    """Until the webhook of the job's end was received."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_WEBHOOK_WITHIN):
            while not receiver.has(job["job_id"], f"job.{job['status']}"):
                await asyncio.sleep(0.02)
            return
    raise DemoError(f"the webhook of {job['job_id']}'s end did not come within {_WEBHOOK_WITHIN:g} s")


async def _log(client: Client, job_id: str) -> str:
    return b"".join([part async for part in client.logs(job_id, tail=_LAST_LINES)]).decode(errors="replace")
