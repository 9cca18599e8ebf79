"""A store, a receiver that fails on purpose, and a worker between them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from attrs import define, field

from common.clock import Clock, new_id
from common.settings import Settings
from service.store.base import NewJob, StoredEvent
from service.store.sqlite import SqliteStore
from service.webhooks import WebhookWorker
from tests.stores import store_in

Answering = Callable[[web.Request, int], Awaitable[web.StreamResponse]]


@define
class Got:
    """One request that the receiver saw."""

    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@define
class Receiver:
    """Answers as `answer` says (request, how many came before on this path); 200 without it."""

    base: str = ""
    answer: Answering | None = None
    got: list[Got] = field(factory=list)
    counts: Counter[str] = field(factory=Counter)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        before = self.counts[request.path]
        self.counts[request.path] += 1
        body = json.loads(await request.read())
        self.got.append(Got(time.monotonic(), request.path, dict(request.headers), body))
        return await self.answer(request, before) if self.answer else web.Response()

    def at(self, path: str) -> list[Got]:
        return [g for g in self.got if g.path == path]


@define
class Yard:
    """The service's side: a store, jobs with hooks, and the worker."""

    folder: Path
    store: SqliteStore
    settings: Settings
    published: list[StoredEvent]
    worker: WebhookWorker | None = None
    lookup: Any = None

    async def add(
        self, hooks: dict[str, str], types: Sequence[str] = ("job.queued",), secrets: dict[str, str] | None = None
    ) -> str:
        uid = new_id()
        document = {
            "callbacks": {"webhook_url": hooks.get("webhook")},
            "artifacts": {"status_stream_url": hooks.get("stream")},
        }
        new = NewJob(
            uid=uid,
            job_id=f"job-{uid}",
            backend="simulated",
            priority=0,
            lane="",
            labels={},
            document=json.dumps(document),
            spec="{}",
            warnings="[]",
            hooks=dict.fromkeys(hooks, types),
            secrets=secrets or {},
        )
        await self.store.add_job(new)
        if self.worker:
            self.worker.notify()
        return uid

    @asynccontextmanager
    async def working(self) -> AsyncIterator[WebhookWorker]:
        extra = {"lookup": self.lookup} if self.lookup else {}
        self.worker = WebhookWorker(self.store, self.settings, Clock(), **extra)
        task = asyncio.create_task(self.worker.run())
        try:
            yield self.worker
            assert not task.done(), "the worker ended by itself"
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            self.worker = None

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.store._read(query)]

    async def states(self) -> list[str]:
        return [row[0] for row in await self.rows("SELECT state FROM deliveries ORDER BY id")]

    async def settled(self, state: str = "delivered", seconds: float = 60.0) -> None:
        """Until every delivery is in `state`."""
        async with asyncio.timeout(seconds):
            while set(await self.states()) != {state}:
                await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    async with TestServer(app) as server:
        made.base = str(server.make_url("")).rstrip("/")
        yield made


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    published: list[StoredEvent] = []
    settings = Settings(data_dir=tmp_path, webhook_first_retry_seconds=0.05, webhook_timeout_seconds=60.0)
    async with store_in(tmp_path, published.extend, writer_queue=100_000) as store:
        yield Yard(tmp_path, store, settings, published)
