"""The service with some jobs, whose events are appended through its store as soon as all readers are there."""

import asyncio
import json
import os
import sys

from aiohttp import web

from benchmarks.document import job_id, played
from benchmarks.frames import progress
from common.event import JobRunning, JobSucceeded
from common.settings import read_settings
from service import journal
from service.app import make_app
from service.operations.accept import accept
from service.operations.submit import submit
from service.parts import Parts, open_parts


async def produce(parts: Parts, readers: int, events: int, jobs: int) -> None:
    """So many jobs at once, each appending one event after the other; then one of them ends."""
    while parts.subscribers < readers:
        await asyncio.sleep(0.05)
    await _add(parts, "holder")
    while (await parts.store.job("holder")).handle is None:
        await asyncio.sleep(0.01)
    uids = [await _add(parts, job_id(n)) for n in range(jobs)]
    await asyncio.sleep(0.5)
    steps = events // jobs
    await asyncio.gather(*(_play(parts, uid, steps) for uid in uids))
    await parts.store.append(uids[0], [JobSucceeded(step=steps)])


async def _add(parts: Parts, name: str) -> str:
    record, _ = await submit(parts, accept(parts, played(seconds=3600) | {"job_id": name}, strict=False))
    return record.job.uid


async def _play(parts: Parts, uid: str, steps: int) -> None:
    await parts.store.append(uid, [JobRunning()])
    for step in range(1, steps + 1):
        await parts.store.append(uid, [progress(step, steps)])


async def serve() -> None:
    """Until the process is ended."""
    settings = read_settings(os.environ)
    journal.configure(settings)
    order = json.loads(os.environ["BENCH_ORDER"])
    async with open_parts(settings, lambda: sys.exit(1)) as parts:
        runner = web.AppRunner(make_app(parts), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, settings.host, settings.port, backlog=1024).start()
        await produce(parts, **order)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
