"""The real service in the test's own process: started, stopped and started again on one data directory."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from aiohttp import web
from attrs import evolve, frozen

from common.backend import BaseTrainerBackend, Handle, JobSpec
from common.errors import BackendUnavailable
from common.folder import JobFolder
from common.job import Job
from common.settings import Settings
from service.app import make_app
from service.documents import job_document
from service.parts import Parts, open_parts
from service.specs import read_spec
from service.store.base import JobRecord

Document = dict[str, Any]
ENDS = ("succeeded", "failed", "cancelled")
_LOOK_SECONDS = 0.05
_WAIT_SECONDS = 20.0
_CALL_SECONDS = 30.0
_MOST_EVENTS = 100_000


@frozen
class Submission:
    """A call of `submit`, and what came of it."""

    job: Job
    attempt: int
    spec: JobSpec
    handle: Handle | None = None


class RunningService:
    """A service over HTTP on a free port of this machine, whose inside can be looked at.

    `pace` stretches every wait. `stop` leaves runs alone, as the end of the service's process does.
    """

    def __init__(self, settings: Settings, pace: float) -> None:
        self.pace = pace
        # A socket that does not listen keeps the port from whoever asks for any, and lets in who sets SO_REUSEADDR.
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        port = self._held.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.settings = evolve(settings, host="127.0.0.1", port=port, public_url=self.url)
        self._parts: Parts | None = None
        self._stack = AsyncExitStack()
        self._http: aiohttp.ClientSession | None = None
        self.broken = False

    @property
    def parts(self) -> Parts:
        assert self._parts is not None, "the service is stopped: await service.start()"
        return self._parts

    @property
    def backend(self) -> BaseTrainerBackend:
        """The backend under test, as the service has it."""
        return self.parts.registry.get(self.settings.backend)

    async def start(self) -> None:
        """Start it on what its data directory has."""
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        stack = AsyncExitStack()
        try:
            self._parts = await stack.enter_async_context(open_parts(self.settings, self._fatal))
            runner = web.AppRunner(make_app(self._parts), access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", self.settings.port, reuse_address=True).start()
            timeout = aiohttp.ClientTimeout(total=_CALL_SECONDS)
            self._http = await stack.enter_async_context(aiohttp.ClientSession(self.url, timeout=timeout))
        except BaseException:
            await stack.aclose()
            raise
        self._stack = stack

    async def stop(self) -> None:
        """Stop it; runs go on."""
        self._parts, stack, self._stack = None, self._stack, AsyncExitStack()
        await stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def end(self) -> None:
        """Cancel whatever is live, wait for its end, stop; the port is given back."""
        try:
            if self._parts is None:
                await self.start()
            for status in ("running", "queued"):
                for job in (await self.get(f"/train?limit=500&status={status}"))["jobs"]:
                    await self.call("POST", f"/train/{job['job_id']}/cancel")
                    await self.ended(job["job_id"], self.settings.grace_seconds)
        finally:
            await self.stop()
            self._held.close()
        assert not self.broken, "the service called itself broken: see its log above"

    def _fatal(self) -> None:
        self.broken = True

    async def call(self, method: str, path: str, document: object = None) -> tuple[int, Any]:
        """The status and the document of an answer."""
        assert self._http is not None
        body = {} if document is None else {"json": document}
        async with self._http.request(method, path, **body) as answer:  # type: ignore[arg-type]
            is_json = "json" in answer.content_type
            return answer.status, await answer.json(content_type=None) if is_json else await answer.text()

    async def get(self, path: str) -> Any:
        status, found = await self.call("GET", path)
        assert status == 200, f"GET {path} → {status}: {found}"
        return found

    async def submit(self, document: Mapping[str, object]) -> Document:
        """`POST /train`; the job document."""
        status, found = await self.call("POST", "/train", document)
        assert status == 201, (
            f"the backend refused a document of the suite ({status}): {found}\nOverride `document` in your test class "
            "so that it makes requests which your backend takes."
        )
        return dict(found)

    async def job(self, job_id: str) -> Document:
        """The job document, as `GET /train` shows it."""
        record = await self.record(job_id)
        return job_document(record, self.parts.dispatch.why_waiting(record.lane))

    async def events(self, job_id: str) -> list[Document]:
        """All events of a job, oldest first, as they are served."""
        uid = (await self.record(job_id)).job.uid
        return [json.loads(event.text) for event in await self.parts.store.events(uid, 0, _MOST_EVENTS)]

    async def steps(self, job_id: str) -> list[int]:
        """The steps that were told, in the order in which they were."""
        return [e["data"]["step"] for e in await self.events(job_id) if e["type"] == "job.progress"]

    async def types(self, job_id: str) -> list[str]:
        """The types of a job's events, without `job.`."""
        return [event["type"].removeprefix("job.") for event in await self.events(job_id)]

    async def until(self, job_id: str, what: str, holds: Callable[[Document], object], seconds: float = 0) -> Document:
        """The job as soon as `holds` of it; `what` says in the message what was waited for."""
        limit = (_WAIT_SECONDS + seconds) * self.pace
        late = time.monotonic() + limit
        while not holds(job := await self.job(job_id)):
            if time.monotonic() > late:
                events = [f"{e['type']} {e['data']}" for e in (await self.events(job_id))[-10:]]
                keys = ("status", "phase", "detail", "reason", "attempt", "progress")
                raise AssertionError(
                    f"job {job_id} is not {what} after {limit:.0f} s: { ({key: job[key] for key in keys}) }; "
                    "its last events:\n  " + "\n  ".join(events)
                )
            await asyncio.sleep(_LOOK_SECONDS)
        return job

    async def running(self, job_id: str, step: int = 0) -> Document:
        """The job as soon as it runs and has told `step`."""
        return await self.until(
            job_id,
            f"running at step {step} or beyond",
            lambda job: job["status"] == "running" and (not step or (job["progress"] or {}).get("step", 0) >= step),
        )

    async def reached(self, job_id: str, step: int) -> Document:
        """The job as soon as it has told `step`, or has ended before this was seen."""
        return await self.until(
            job_id,
            f"at step {step} or beyond",
            lambda job: job["status"] in ENDS or (job["progress"] or {}).get("step", 0) >= step,
        )

    async def handed_over(self, job_id: str) -> Document:
        """The job as soon as its backend took it."""
        return await self.until(job_id, "handed over", lambda job: job["backend_job_id"] or job["status"] in ENDS)

    async def ended(self, job_id: str, seconds: float = 0) -> Document:
        """The job as soon as it has ended; `seconds` is what the run itself may take."""
        return await self.until(job_id, "ended", lambda job: job["status"] in ENDS, seconds)

    async def comes_true(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        """Whether it holds within the usual time."""
        late = time.monotonic() + _WAIT_SECONDS * self.pace
        while not await holds():
            if time.monotonic() > late:
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return True

    @asynccontextmanager
    async def killed_at_submit(self) -> AsyncIterator["asyncio.Queue[Submission]"]:
        """Inside the block the service is as if killed right after each `submit`; stop or restart it there.

        Each submission goes into the queue, with the handle that the service never comes to store.
        """
        backend, submit, seen = self.backend, self.backend.submit, asyncio.Queue[Submission]()

        async def killed(job: Job, attempt: int, spec: JobSpec) -> Handle:
            seen.put_nowait(Submission(job, attempt, spec, await submit(job, attempt, spec)))
            await asyncio.Event().wait()
            raise AssertionError("the service went on")

        with _replaced(backend, "submit", killed):
            yield seen

    @asynccontextmanager
    async def submissions_held_up(self) -> AsyncIterator["asyncio.Queue[Submission]"]:
        """Inside the block no submission comes through, and the service is told so; the queue has what it tried."""
        backend, seen = self.backend, asyncio.Queue[Submission]()

        async def held_up(job: Job, attempt: int, spec: JobSpec) -> Handle:
            seen.put_nowait(Submission(job, attempt, spec))
            raise BackendUnavailable("the submission is held up by the conformance suite")

        with _replaced(backend, "submit", held_up):
            yield seen

    async def record(self, job_id: str) -> JobRecord:
        """The job as the store has it."""
        return await self.parts.store.job(job_id)

    async def handle(self, job_id: str) -> Handle:
        """The stored handle of the job's present attempt."""
        record = await self.record(job_id)
        assert record.handle is not None, f"job {job_id} has no handle yet"
        return record.handle

    async def spec(self, job_id: str) -> JobSpec:
        return read_spec((await self.record(job_id)).spec)

    def folder(self, job_id: str) -> JobFolder:
        """The job's folder; it exists only where the spec asks for one."""
        return JobFolder(self.backend.job_folder(job_id))


@contextmanager
def _replaced(thing: object, name: str, value: object) -> Iterator[None]:
    """One object's method in another's place."""
    setattr(thing, name, value)
    try:
        yield
    finally:
        delattr(thing, name)
