"""The local backend with real guards and a real little program."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.backend import Checkpoint, RunAck, RunBegan, Stop
from common.job import Reason
from tests.local_runs import STOPS, LocalRuns, ended, follow, kinds, local_runs


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[LocalRuns]:
    async with local_runs(tmp_path, grace_seconds=10) as made:
        yield made


FULL = """
tell("phase", phase="training")
for step in (1, 2, 3):
    tell("progress", step=step, total_steps=3, loss=1.0 / step)
tell("log", message="half way")
tell("novelty", of="a newer trainer")
tell("checkpoint", step=3, uri="/out/step-3", bytes=7)
tell("end", step=3, final_uri="/out/final")
print("done")
"""


async def test_a_run_is_told_from_its_claim_to_its_end(runs: LocalRuns) -> None:
    backend = runs.backend()
    handle = await runs.submit(backend, runs.spec(FULL))
    events = await follow(backend, handle)
    assert kinds(events) == [
        *("RunBegan", "job.phase", "job.progress", "job.progress", "job.progress"),
        *("job.log", "job.log", "job.checkpoint", "RunEnded"),
    ]
    assert [e.cursor.n for e in events[:-1] if e.cursor] == list(range(8))
    assert events[1].at == "2026-01-01T00:00:00.000000Z"
    end = events[-1].what
    assert (end.code, end.step, end.final_uri, end.log_tail) == (0, 3, "/out/final", None)  # type: ignore[union-attr]
    assert "done\n" in runs.folder().log.read_text()
    assert (await backend.capacity()).free == {"gpu": 0, "cpu": 1}


async def test_the_run_finds_a_clean_environment(runs: LocalRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_TOKEN", "t0ken")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the operator's")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    backend = runs.backend()
    await ended(backend, await runs.submit(backend, runs.spec("print(json.dumps([dict(os.environ), os.getcwd()]))")))
    env, cwd = json.loads(runs.folder().log.read_text().splitlines()[-1])
    assert {k for k in env if k.startswith("TRAINYARD_")} == {
        f"TRAINYARD_{k}" for k in ["JOB_ID", "SPEC", "RUN", "ATTEMPT_DIR"]
    }
    assert "AWS_SECRET_ACCESS_KEY" not in env
    assert (env["HF_HUB_OFFLINE"], env["MINE"], env["CUDA_VISIBLE_DEVICES"]) == ("1", "mine", "")
    assert env["PATH"] == os.environ["PATH"]
    assert cwd == str(runs.folder().path)


@pytest.mark.parametrize("code", [1, 65, 75])
async def test_a_failure_comes_with_its_code_and_the_end_of_its_log(runs: LocalRuns, code: int) -> None:
    backend = runs.backend()
    program = f"print('line\\n' * 100, 'token hf_very_secret', flush=True); tell('progress', step=4); sys.exit({code})"
    end = await ended(backend, await runs.submit(backend, runs.spec(program)))
    assert (end.code, end.signal, end.reason, end.step) == (code, None, None, 4)
    assert end.log_tail is not None
    assert end.log_tail.endswith("token ••••")
    assert len(end.log_tail.splitlines()) == 50


async def test_what_the_trainer_said_of_its_failure_is_the_explanation(runs: LocalRuns) -> None:
    backend = runs.backend()
    program = "tell('log', message='rows.jsonl line 7: no JSON', level='error', exit_code=65); sys.exit(65)"
    end = await ended(backend, await runs.submit(backend, runs.spec(program)))
    assert (end.code, end.explanation) == (65, "rows.jsonl line 7: no JSON")


async def test_a_signal_of_nobody_of_ours_is_told(runs: LocalRuns) -> None:
    backend = runs.backend()
    end = await ended(backend, await runs.submit(backend, runs.spec("os.kill(os.getpid(), signal.SIGKILL)")))
    assert (end.code, end.signal, end.reason) == (None, 9, None)


async def test_past_its_deadline_the_run_stops_after_a_checkpoint(runs: LocalRuns) -> None:
    backend = runs.backend()
    spec = runs.spec(STOPS + "time.sleep(60)", deadline_minutes=2 / 60)
    events = await follow(backend, await runs.submit(backend, spec))
    end = events[-1].what
    assert (end.code, end.reason, end.step) == (75, Reason.TIME_LIMIT, 3)  # type: ignore[union-attr]
    assert kinds(events)[-2] == "job.checkpoint"


async def test_the_run_answers_commands(runs: LocalRuns) -> None:
    program = """
done = 0
while True:
    lines = (job / "control.jsonl").read_text().splitlines() if (job / "control.jsonl").exists() else []
    for record in map(json.loads, lines[done:]):
        done += 1
        if record["attempt"] == "1.0":
            tell("ack", id=record["id"], ok=True, message=record["command"])
            if record["command"] == "stop":
                sys.exit(75)
    time.sleep(0.02)
"""
    backend = runs.backend()
    handle = await runs.submit(backend, runs.spec(program))
    acks = []
    async for event in backend.watch(handle, None):
        match event.what:
            case RunBegan():
                await backend.send(handle, Checkpoint(id="c1"))
            case RunAck(command_id="c1"):
                acks.append(event.what)
                await backend.send(handle, Stop(id="c2", why="test"))
            case RunAck():
                acks.append(event.what)
    assert acks == [
        RunAck(command_id="c1", ok=True, text="checkpoint"),
        RunAck(command_id="c2", ok=True, text="stop"),
    ]


async def test_log_events_are_limited_and_the_rest_counted(runs: LocalRuns) -> None:
    backend = runs.backend()
    program = """
for n in range(100):
    tell("log", message=f"line {n}")
tell("log", at="2026-01-01T00:00:01.000000Z", message="a second later")
for n in range(30):
    tell("log", at="2026-01-01T00:00:01.000000Z", message="more")
"""
    events = await follow(backend, await runs.submit(backend, runs.spec(program)))
    logs = [e.what for e in events if kinds([e]) == ["job.log"]]
    assert len(logs) == 20 + 20 + 1
    assert logs[20].data() == {"message": "a second later", "left_out": 80}  # type: ignore[union-attr]
    assert logs[-1].data() == {"message": "11 messages were left out: see train.log"}  # type: ignore[union-attr]


async def test_a_command_for_a_run_that_is_gone_disturbs_nobody(runs: LocalRuns) -> None:
    backend = runs.backend()
    handle = await runs.submit(backend, runs.spec(""))
    await ended(backend, handle)
    await backend.cancel(handle, 1)
    await backend.send(handle, Checkpoint(id="late"))
    assert (await ended(backend, handle)).code == 0
