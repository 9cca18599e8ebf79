"""What is compared with: an aiohttp handler that holds its readers in a list, and one loop that writes to each."""

import asyncio
import json
import os

from aiohttp import web

from benchmarks.frames import chunks

readers: list[web.StreamResponse] = []


async def stream(request: web.Request) -> web.StreamResponse:
    """Hold the connection open."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    readers.append(response)
    await asyncio.Event().wait()
    return response


async def broadcast(_app: web.Application) -> None:
    """Write the same bytes to every reader as soon as all are there."""
    order = json.loads(os.environ["BENCH_ORDER"])
    parts = list(chunks(order["events"], order["burst"]))

    async def write() -> None:
        while len(readers) < order["readers"]:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        for part in parts:
            for reader in readers:
                await reader.write(part)

    _app[TASK] = asyncio.create_task(write())


TASK = web.AppKey("task", asyncio.Task[None])


def main() -> None:
    """Serve on the port of `BENCH_PORT`."""
    app = web.Application()
    app.add_routes([web.get("/events", stream)])
    app.on_startup.append(broadcast)
    port = int(os.environ["BENCH_PORT"])
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None, shutdown_timeout=0.1)


if __name__ == "__main__":
    main()
