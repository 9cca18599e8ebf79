"""`killed_store.py FOLDER submit|append N`: kills itself before the writer's N-th SQL statement (0: never)."""

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from common.backend import Cursor
from common.clock import Clock
from common.event import JobProgress, JobRunning
from common.secret import SecretBox
from service.store import sqlite
from service.store.base import NewJob

folder, action, fatal = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
counted = 0
connect = sqlite.connect


def counting(path: Path) -> sqlite3.Connection:
    connection = connect(path)

    def count(statement: str) -> None:
        global counted
        counted += 1
        if counted == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.set_trace_callback(count)
    return connection


async def main() -> None:
    sqlite.connect = counting
    store = await sqlite.open_store(
        folder / "trainyard.db",
        SecretBox(bytes(32)),
        Clock(),
        lambda events: None,
        writer_queue=100,
        event_bytes=65536,
        on_fatal=lambda: None,
    )
    if action == "submit":
        await store.add_job(
            NewJob(
                uid="u1",
                job_id="a",
                backend="simulated",
                priority=0,
                lane="simulated/free",
                labels={"team": "x"},
                document="{}",
                spec="{}",
                warnings="[]",
                hooks={"webhook": ["job.queued"]},
                secrets={"base_model.huggingface_token": "hf_secret"},
            )
        )
    else:
        await store.append("u1", [JobRunning(), JobProgress(step=1)], cursor=Cursor(file="plan", n=3))
    print("answered", flush=True)
    await store.close()
    if counted < fatal or not fatal:
        print("survived", flush=True)


asyncio.run(main())
