"""The HTTP API from Python: `async with Client(url) as client: await client.submit(document)`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import aiohttp
from attrs import frozen

from trainyard import sse
from trainyard.connection import DEFAULT_URL, Connection, Outage
from trainyard.problem import APIError, CallError, Document, UnreachableError, foreign, read_object

__all__ = [
    "DEFAULT_URL",
    "ENDS",
    "APIError",
    "Answer",
    "CallError",
    "Client",
    "Document",
    "UnreachableError",
    "job_path",
]

ENDS = frozenset({"succeeded", "failed", "cancelled"})
PAGE = 500
_FIRST_LOOK, _LAST_LOOK = 0.1, 1.0
_DEEP_SECONDS = 3600.0

T = TypeVar("T")


@frozen
class Answer:
    """A good answer: its HTTP status and its document."""

    status: int
    document: Document


class Client:
    """A client of one service; documents go in and come out as the API has them.

    `timeout` (seconds) bounds every plain call, `idle` the silence of a stream (the service says something every 15 s).
    Streams survive a restart of the service: once it has answered, they try again for `patience` seconds, and `notice`
    is called with a sentence when the waiting begins, when it is over, and when a stream begins anew.

    Raises `APIError` where the service refuses, `UnreachableError` where there is none.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        idle: float = 60.0,
        patience: float = 86400.0,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.patience = patience
        self._connection = Connection(url, token, timeout, idle, notice or (lambda _: None))

    @property
    def url(self) -> str:
        return self._connection.url

    async def __aenter__(self) -> Self:
        self._connection.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.close()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Sequence[tuple[str, str]] = (),
        document: Mapping[str, object] | bytes | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """One call whose answer is a JSON object; bytes are sent as they are. `seconds`: in place of `timeout`."""
        async with self._connection.open(method, path, params, document, seconds=seconds) as response:
            return Answer(response.status, await read_object(response))

    async def submit(self, document: Mapping[str, object] | bytes, *, strict: bool = False) -> Document:
        """Hand a job over; the job document. May be repeated: the same document under the same `job_id` is one job."""
        return (await self.call("POST", "/train", params=_strict(strict), document=document)).document

    async def validate(
        self, document: Mapping[str, object] | bytes, *, strict: bool = False, deep: bool = False
    ) -> Document:
        """What the service would say to `submit`; nothing is stored.

        `deep` has it look at data and model too: `data`, `model`, `memory`, `steps` are in the answer then. That takes
        seconds, and with a large download minutes: the service's own limit ends it.
        """
        params = [*_strict(strict), *([("deep", "true")] if deep else [])]
        seconds = _DEEP_SECONDS if deep else None
        return (await self.call("POST", "/train/validate", params=params, document=document, seconds=seconds)).document

    async def page(
        self,
        *,
        status: Sequence[str] = (),
        backend: str | None = None,
        label: Sequence[str] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> Document:
        """One page of the list, newest job first; `cursor` is the page before's `next_cursor`."""
        params = [("limit", str(limit)), *(("status", s) for s in status), *(("label", pair) for pair in label)]
        params += [(name, value) for name, value in (("backend", backend), ("cursor", cursor)) if value is not None]
        return (await self.call("GET", "/train", params=params)).document

    async def list(
        self,
        *,
        status: Sequence[str] = (),
        backend: str | None = None,
        label: Sequence[str] = (),
        limit: int | None = None,
    ) -> AsyncIterator[Document]:
        """The jobs, newest first, page by page; `status`: any of these, `label`: all of these `key=value`."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(left, PAGE)
            page = await self.page(status=status, backend=backend, label=label, limit=size, cursor=cursor)
            for job in page["jobs"]:
                yield job
            left = None if left is None else left - len(page["jobs"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def show(self, job_id: str) -> Document:
        """The job document."""
        return (await self.call("GET", job_path(job_id))).document

    async def cancel(self, job_id: str) -> Document:
        """Wish the job's end; the answer does not wait for it."""
        return (await self.call("POST", job_path(job_id, "cancel"))).document

    async def pause(self, job_id: str) -> Document:
        """Have the job give its devices back, after a checkpoint; the answer does not wait for it."""
        return (await self.call("POST", job_path(job_id, "pause"))).document

    async def resume(self, job_id: str, document: Mapping[str, object] | None = None) -> Document:
        """Go on with a paused, failed or cancelled job from its newest checkpoint.

        `document`: what is to be different, `{"backend"?, "tuning_parameters"?, "resources"?, "secrets"?}`.
        """
        return (await self.call("POST", job_path(job_id, "resume"), document=document or {})).document

    async def change(self, job_id: str, patch: Mapping[str, object]) -> Document:
        """Change a job that has not ended by a merge patch; it holds when `job.changed` is told."""
        return (await self.call("PATCH", job_path(job_id), document=patch)).document

    async def checkpoint(self, job_id: str) -> Document:
        """Ask a running job for a checkpoint now: `{"command_id"}`; it is told as `job.checkpoint`."""
        return (await self.call("POST", job_path(job_id, "checkpoint"))).document

    async def checkpoints(self, job_id: str) -> Document:
        """`{"checkpoints": [...]}`."""
        return (await self.call("GET", job_path(job_id, "checkpoints"))).document

    async def backends(self) -> Document:
        """`{"backends": [...]}`, broken ones with their reason."""
        return (await self.call("GET", "/backends")).document

    async def metrics(
        self, job_id: str, *, after: int | None = None, names: Sequence[str] = ()
    ) -> AsyncIterator[Document]:
        """The reported steps so far, oldest first, page by page."""
        params = [("names", ",".join(names))] if names else []
        async for entry in self._pages(job_path(job_id, "metrics"), "metrics", after, params):
            yield entry

    async def past_events(self, job_id: str, *, after: int | None = None) -> AsyncIterator[Document]:
        """The events that are stored by now, oldest first, page by page."""
        async for event in self._pages(job_path(job_id, "events"), "events", after):
            yield event

    async def events(self, job_id: str | None = None, *, after: int | None = None) -> AsyncGenerator[Document, None]:
        """The events as they come: a job's from its start, or after an id, to its end; without a job all from now on.

        Nothing is lost or told twice, over reconnects too. Only where the service says that the cursor is none of its
        ids (it was set up anew, for instance) the stream begins again at its start, and `notice` says so.
        """
        path = "/events" if job_id is None else job_path(job_id, "events")
        outage = Outage(self.patience)
        cursor, status = after, ""
        while True:
            headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"} | (
                {} if cursor is None else {"Last-Event-ID": str(cursor)}
            )
            try:
                async with self._connection.open("GET", path, headers=headers, stream=True) as response:
                    self._connection.back(outage)
                    if response.status == 204:
                        return
                    async for event in _events_of(response, outage):
                        if event is None:
                            cursor = None
                            self._connection.notice(
                                "the service does not know the last event seen: its events are told from the start"
                            )
                            continue
                        cursor, status = event["id"], event["status"]
                        yield event
                if job_id is not None and status in ENDS:
                    return
                error: CallError = UnreachableError(f"{self.url} closed the stream")
            except CallError as e:
                error = e
            await self._connection.wait(outage, error)

    async def follow(
        self, job_id: str, tell: Callable[[Document], None] | None = None, *, after: int | None = None
    ) -> Document:
        """Wait for the job's end, `tell` every event on the way; the job document at the end."""
        while True:
            async with contextlib.aclosing(self.events(job_id, after=after)) as events:
                async for event in events:
                    after = event["id"]
                    if tell is not None:
                        tell(event)
            job = await self._patiently(lambda: self.show(job_id))
            if job["status"] in ENDS:
                return job

    async def logs(
        self, job_id: str, *, tail: int | None = None, offset: int | None = None, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """The log, all of it or from `offset` (bytes) or its last `tail` lines; with `follow` to the job's end.

        Always by parts, each from where the service says that the one before ended: what is shown of a log has other
        lengths than the log itself (secrets are masked), so only so nothing is lost or told twice.
        """
        place = ("offset", str(offset or 0)) if tail is None else ("tail", str(tail))
        wait = _FIRST_LOOK
        while True:
            over = not follow or (await self._patiently(lambda: self.show(job_id)))["status"] in ENDS
            moved = False
            while True:
                text, next_place = await self._patiently(partial(self._log_part, job_id, place))
                if text:
                    yield text
                if next_place == place:
                    break
                moved, place = moved or bool(text), next_place
            if over:
                return
            wait = _FIRST_LOOK if moved else min(wait * 1.5, _LAST_LOOK)
            await asyncio.sleep(wait)

    async def _log_part(self, job_id: str, place: tuple[str, str]) -> tuple[bytes, tuple[str, str]]:
        async with self._connection.open(
            "GET", job_path(job_id, "logs"), [place], headers={"Accept": "text/plain"}, stream=True
        ) as response:
            if "X-Log-Offset" not in response.headers:
                raise foreign(response)
            return await response.read(), ("offset", response.headers["X-Log-Offset"])

    async def _pages(
        self, path: str, key: str, after: int | None, params: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[Document]:
        while True:
            place = [] if after is None else [("after", str(after))]
            page = (await self.call("GET", path, params=[*params, *place, ("limit", str(PAGE))])).document
            for entry in page[key]:
                yield entry
            after = page["next_after"]
            if after is None:
                return

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        outage = Outage(self.patience)
        while True:
            try:
                answer = await work()
            except CallError as e:
                await self._connection.wait(outage, e)
            else:
                self._connection.back(outage)
                return answer


def job_path(job_id: str, call: str | None = None) -> str:
    """The path of a job, or of a call on it; raises `ValueError` for what can't be an id."""
    if job_id.strip(".") == "":
        raise ValueError(f"a job's id has letters or digits, got {job_id!r}")
    return f"/train/{quote(job_id, safe='')}" + (f"/{call}" if call else "")


def _strict(strict: bool) -> Sequence[tuple[str, str]]:
    return [("strict", "true")] if strict else []


async def _events_of(response: aiohttp.ClientResponse, outage: Outage) -> AsyncIterator[Document | None]:
    """The events of one connection; None stands for a `reset`."""
    if response.content_type != "text/event-stream":
        raise foreign(response)
    parser = sse.Parser()
    async for chunk in response.content.iter_any():
        for message in parser.feed(chunk):
            try:
                event = None if message.event == "reset" else json.loads(message.data)
            except ValueError as e:
                raise foreign(response) from e
            yield event
        if parser.retry_ms is not None:
            outage.first_wait = max(parser.retry_ms / 1000, 0.1)
