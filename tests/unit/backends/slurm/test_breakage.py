"""A cluster that answers late, wrongly or not at all, over a transport that does as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from backends.slurm.accounting import Accounting
from backends.slurm.backend import SlurmBackend
from backends.slurm.client import Script
from backends.slurm.query import Poll
from backends.slurm.rows import Nodes, Row
from common.backend import BackendContext
from common.clock import Clock
from common.devices import DevicePool
from common.errors import BackendUnavailable
from common.settings import Settings

UID = "ab" * 16
NAME = ("job-1", UID, 1)


@define
class Scripted:
    """A way to a cluster whose every answer is given beforehand."""

    queue: Callable[[], list[Row]] = list
    account: list[Row] = field(factory=list)
    answers: asyncio.Event = field(factory=asyncio.Event)

    def missing(self) -> str | None:
        return None

    async def submit(self, script: Script) -> int:
        return 1

    async def rows(self) -> list[Row]:
        return self.queue()

    async def accounted(self, names: Sequence[str], since: str) -> list[Row]:
        await self.answers.wait()
        return self.account

    async def nodes(self) -> list[Nodes]:
        await self.answers.wait()
        kinds = {"minutes": None, "cpus": 4, "memory_mib": 8000, "gpus": {}, "count": 2}
        return [Nodes(partition="main", default=True, up=True, **kinds)]

    async def signal(self, jobs: Sequence[int], named: str, signal: str) -> None:
        return None

    async def cancel(self, jobs: Sequence[int], named: str) -> None:
        return None

    def close(self) -> None:
        return None


@pytest.fixture
async def deaf(tmp_path: Path) -> AsyncIterator[tuple[SlurmBackend, Scripted]]:
    cluster = Scripted()
    settings: dict[str, Any] = {"slurm_poll_seconds": 0.1}
    context = BackendContext(settings=Settings(data_dir=tmp_path, **settings), clock=Clock(), devices=DevicePool(()))
    backend = SlurmBackend(context, cluster)
    yield backend, cluster
    await backend.close()


async def test_a_start_waits_for_no_answer_and_knows_the_cluster_once_it_came(
    deaf: tuple[SlurmBackend, Scripted],
) -> None:
    backend, cluster = deaf
    async with asyncio.timeout(5):
        await backend.start()
        assert (await backend.capacity()).reason == "Slurm has not answered yet"
        cluster.answers.set()
        while not backend.cluster.known:
            await asyncio.sleep(0.01)
    capacity = await backend.capacity()
    assert (capacity.total["nodes"], capacity.reason) == (2, None)


async def test_an_answer_that_can_not_be_read_ends_no_look() -> None:
    answers: list[Any] = [ValueError("no such field"), [Row(id=7, uid=UID, attempt=1, state="RUNNING")]]

    def queue() -> list[Row]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    poll = Poll(Scripted(queue=queue), Clock(), 0.05)
    async with asyncio.timeout(5):
        with poll.used():
            first = await poll.news(0)
            assert (first.rows, first.away) == (None, "Slurm's queue can't be read: ValueError: no such field")
            second = await poll.news(first.number)
            assert second.of(UID, 1, None) == answers[0][0]
    await poll.close()


async def test_of_two_submissions_accounting_gives_the_one_that_claimed() -> None:
    twins = [Row(id=n, uid=UID, attempt=1, state=state) for n, state in ((5, "FAILED"), (6, "COMPLETED"))]
    cluster = Scripted(account=twins)
    cluster.answers.set()
    accounting = Accounting(cluster)
    async with asyncio.timeout(5):
        rows = await asyncio.gather(*(accounting.row(*NAME, owner) for owner in (5, 6, None)))
    assert [row.id for row in rows if row] == [5, 6, 6]


async def test_a_question_to_accounting_is_not_left_at_the_close() -> None:
    before = asyncio.all_tasks()
    accounting = Accounting(Scripted())
    asking = asyncio.create_task(accounting.row(*NAME))
    await asyncio.sleep(0.3)
    late = asyncio.create_task(accounting.row("job-2", UID, 1))
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await accounting.close()
        for question in (asking, late):
            with pytest.raises(BackendUnavailable, match="stops"):
                await question
    assert asyncio.all_tasks() == before
