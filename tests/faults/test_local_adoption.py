"""The service goes, the run stays: another backend takes it up where the first one left off."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.backend import BackendEvent, Cursor, Handle
from common.event import JobProgress
from common.job import Reason
from tests.local_runs import LocalRuns, ended, follow, kinds, local_runs


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[LocalRuns]:
    async with local_runs(tmp_path) as made:
        yield made


COUNTS = """
for step in range(1, 41):
    tell("progress", step=step)
    if step == 20:
        until("go")
tell("end", step=40, final_uri="/out/final")
"""


def steps(events: list[BackendEvent]) -> list[int]:
    return [e.what.step for e in events if isinstance(e.what, JobProgress)]


@pytest.mark.parametrize("seen", [0, 1, 7, 20])
async def test_nothing_is_lost_and_nothing_told_twice(runs: LocalRuns, seen: int) -> None:
    first = runs.backend()
    handle = await runs.submit(first, runs.spec(COUNTS))
    before: list[BackendEvent] = []
    async for event in first.watch(handle, None):
        before.append(event)
        if len(before) == seen + 1:
            break
    (runs.folder().path / "go").touch()
    after = await follow(runs.backend(), handle, before[-1].cursor)
    assert steps(before) + steps(after) == list(range(1, 41))
    assert "RunBegan" not in kinds(after)
    assert (after[-1].what.step, after[-1].what.final_uri) == (40, "/out/final")  # type: ignore[union-attr]


SERVICE = """
import asyncio, sys
from pathlib import Path
from tests.local_runs import LocalRuns

async def serve():
    runs = LocalRuns(Path(sys.argv[1]))
    backend = runs.backend()
    handle = await runs.submit(backend, runs.spec(sys.argv[2]))
    async for event in backend.watch(handle, None):
        print(event, flush=True)

asyncio.run(serve())
"""


async def test_the_run_outlives_a_service_that_is_killed(runs: LocalRuns, tmp_path: Path) -> None:
    argv = [sys.executable, "-c", SERVICE, str(tmp_path), COUNTS]
    root = Path(__file__).parents[2]
    service = await asyncio.create_subprocess_exec(*argv, cwd=root, stdout=asyncio.subprocess.PIPE)
    assert service.stdout is not None
    while b"step=20" not in await service.stdout.readline():
        assert service.returncode is None
    service.kill()
    await service.wait()
    after = runs.backend()
    handle = await after.find(runs.job(), 1)
    assert handle is not None
    (runs.folder().path / "go").touch()
    assert steps(await follow(after, handle)) == list(range(1, 41))
    assert (await ended(after, handle)).code == 0


async def test_a_run_that_ended_meanwhile_is_told_to_its_end(runs: LocalRuns) -> None:
    handle = await runs.submit(
        runs.backend(), runs.spec("tell('progress', step=1)\ntell('end', step=1, final_uri='f')")
    )
    await runs.until(lambda: (runs.folder().path / "attempts/1.0/exit.json").exists())
    found = await runs.backend().find(runs.job(), 1)
    assert found == handle
    assert kinds(await follow(runs.backend(), handle)) == ["RunBegan", "job.progress", "RunEnded"]
    consumed = Cursor(file="attempts/1.0/events.jsonl", n=2, offset=10_000)
    rest = await follow(runs.backend(), handle, consumed)
    assert kinds(rest) == ["RunEnded"]
    assert rest[0].what.final_uri == "f"  # type: ignore[union-attr]


async def test_half_a_line_waits_for_its_end_and_a_bad_one_does_not_hold_up_the_end(runs: LocalRuns) -> None:
    program = """
tell("progress", step=1)
with (own / "events.jsonl").open("a") as file:
    file.write('{"format": 1, "n": 2, "type": "progress", ')
    file.flush()
    until("go")
    file.write('"data": {"step": 2}}\\n')
    file.write('{"n": 3, "type": "progress", "data": {"step": "three"}}\\n{"n": 9, "type": "log", "data": {}}\\n')
"""
    backend = runs.backend()
    handle = await runs.submit(backend, runs.spec(program))
    events = []
    async for event in backend.watch(handle, None):
        events.append(event)
        if steps(events) == [1]:
            (runs.folder().path / "go").touch()
    assert kinds(events) == ["RunBegan", "job.progress", "job.progress", "job.log", "RunEnded"]
    assert "an event of type 'progress' can't be read: data.step" in events[3].what.data()["message"]  # type: ignore


async def test_where_no_run_claims_the_attempt_it_is_lost_and_shut_out(runs: LocalRuns) -> None:
    backend = runs.backend()
    spec = runs.spec("print('ran')")
    handle = await runs.submit(backend, spec)
    await ended(backend, handle)
    gone = runs.job("gone")
    runs.folder("gone").make({"uid": gone.uid, "job_id": "gone", "devices": []}, 1, None)
    never = await backend.find(gone, 1)
    assert never is None
    end = await ended(backend, Handle(uid=gone.uid, job_id="gone", attempt=1))
    assert (end.reason, end.code) == (Reason.LOST, None)
    assert end.explanation == "no run claimed the attempt, and none is on its way"
    backend._children.add(backend._start(gone, 1, spec, ()))
    await runs.until(lambda: (runs.folder("gone").path / "attempts/1.0/exit.json").exists())
    assert not runs.folder("gone").log.read_text()
