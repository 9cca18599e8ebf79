"""A little receiver of webhooks, as a launcher app would have one: it checks the header and keeps what came."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

Delivery = dict[str, Any]


class Receiver:
    """Listens on a free port of this machine; `tell` is called with every delivery."""

    def __init__(self, tell: Callable[[Delivery], None]) -> None:
        self.auth_header = f"Bearer {secrets.token_hex(16)}"
        self.url = ""
        self.received: list[Delivery] = []
        self._tell = tell

    async def receive(self, request: web.Request) -> web.Response:
        if not secrets.compare_digest(request.headers.get("Authorization", ""), self.auth_header):
            return web.Response(status=401)
        delivery: Delivery = await request.json()
        self.received.append(delivery)
        self._tell(delivery)
        return web.Response(status=204)

    def has(self, job_id: str, kind: str) -> bool:
        """Whether an event of a job was delivered."""
        return any(d["job_id"] == job_id and d["type"] == kind for d in self.received)


@contextlib.asynccontextmanager
async def receiving(tell: Callable[[Delivery], None]) -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver(tell)
    app = web.Application()
    app.router.add_post("/hook", receiver.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()
