"""`POST /train/validate?deep=true` (contract train.md, 3), with a program in the trainer's place."""

import asyncio
import contextlib
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from attrs import evolve

from service.preflight import Preflights
from tests.server import Server

WARNED = [{"path": "datasets[0].source", "message": "a row"}, {"path": "", "message": "of no field"}]
FOUND = {"ok": True, "data": {"rows": 2}, "model": {"parameters": 9}, "memory": {}, "steps": 3, "warnings": WARNED}
DEEP = "/train/validate?deep=true"


@pytest.fixture
def text_job(tmp_path: Path) -> dict[str, Any]:
    """A document that the text engine trains on the CPU."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a row"}\n')
    return {
        "job_id": "deep-1",
        "base_model": {"provider": "custom", "model_name": "owner/name", "huggingface_token": "hf_very_secret"},
        "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1},
        "datasets": [{"source": str(tmp_path / "rows.jsonl"), "format": "jsonl"}],
        "artifacts": {"log_uri": str(tmp_path / "logs"), "output_uri": str(tmp_path / "out")},
        "extra_parameters": {"env": {"MY_NAME": "of the run"}},
    }


@pytest.fixture
def play(parts: Any) -> Callable[..., None]:
    """Puts a small program into the trainer's place."""

    def put(code: str, **settings: Any) -> None:
        parts.preflights = Preflights(evolve(parts.settings, **settings), (sys.executable, "-c", code))

    return put


async def test_the_answer_has_what_the_trainer_found(client, play, text_job, tmp_path):
    heard = tmp_path / "heard.json"
    play(
        f"import json, os, sys; heard = json.load(sys.stdin); heard['env'] = dict(os.environ)\n"
        f"json.dump(heard, open({str(heard)!r}, 'w')); print({json.dumps(FOUND)!r})"
    )
    answer = await client.post(DEEP, json=text_job)
    found = await answer.json()
    assert answer.status == 200, found
    assert {name: found[name] for name in ("ok", "data", "model", "memory", "steps")} == {
        name: FOUND[name] for name in ("ok", "data", "model", "memory", "steps")
    }
    assert found["warnings"][-2:] == [WARNED[0], {"path": "$", "message": "of no field"}]
    assert found["job_spec"]["engine"] == "text"
    told = json.loads(heard.read_text())
    assert told["secrets"]["values"] == {"base_model.huggingface_token": "hf_very_secret"}
    assert told["spec"]["request"]["base_model"]["huggingface_token"] is None
    assert told["env"]["MY_NAME"] == "of the run" and told["env"]["CUDA_VISIBLE_DEVICES"] == ""
    assert not Path(told["env"]["TMPDIR"]).exists()
    assert (await client.get("/train/deep-1")).status == 404
    assert not (tmp_path / "out").exists() and not (tmp_path / "logs").exists()


async def test_errors_come_with_their_paths_and_without_secrets(client, play, text_job):
    errors = [{"path": "datasets[0].split", "message": "no 'x'; token hf_very_secret"}, {"path": "", "message": "y"}]
    play(f"print({json.dumps({'ok': False, 'reason': 'data', 'errors': errors})!r}); raise SystemExit(65)")
    answer = await client.post(DEEP, json=text_job)
    problem = await answer.json()
    assert answer.status == 400
    assert problem["errors"][0] == {"path": "datasets[0].split", "message": "no 'x'; token ••••"}
    assert problem["errors"][1]["path"] == "$"


@pytest.mark.parametrize(("reason", "status"), [("internal", 500), ("disk_full", 507), ("credentials", 400)])
async def test_each_reason_has_its_status(client, play, text_job, reason: str, status: int):
    said = {"ok": False, "reason": reason, "errors": [{"path": "", "message": "why"}]}
    play(f"print({json.dumps(said)!r})")
    answer = await client.post(DEEP, json=text_job)
    assert answer.status == status
    assert "why" in (await answer.json())["detail"]


async def test_one_that_takes_too_long_is_ended_with_its_children(client, play, text_job, tmp_path):
    for seconds in (1, 4, 16):  # a slow machine needs a longer time to begin
        play(FORKS.format(str(tmp_path / "pids")), preflight_seconds=seconds)
        answer = await client.post(DEEP, json=text_job)
        problem = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "60")
        assert f"more than {seconds} s (TRAINYARD_PREFLIGHT_SECONDS)" in problem["detail"]
        if (tmp_path / "pids").exists():
            break
    await gone(tmp_path / "pids")


async def test_one_that_is_killed_says_so(client, play, text_job):
    play("import os; os.kill(os.getpid(), 9)")
    answer = await client.post(DEEP, json=text_job)
    assert answer.status == 503
    assert "ended by signal 9" in (await answer.json())["detail"]


async def test_a_caller_who_leaves_ends_it(client, play, text_job, tmp_path):
    play(FORKS.format(str(tmp_path / "pids")))
    async with ClientSession() as session:
        asked = asyncio.create_task(session.post(client.make_url(DEEP), json=text_job))
        await there(tmp_path / "pids")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
    await gone(tmp_path / "pids")


async def test_the_end_of_the_service_ends_it(client, parts, play, text_job, tmp_path):
    play(FORKS.format(str(tmp_path / "pids")))
    asked = asyncio.create_task(client.post(DEEP, json=text_job))
    await there(tmp_path / "pids")
    parts.preflights.close()
    assert (await asked).status == 503
    await gone(tmp_path / "pids")


async def test_too_many_at_once_are_refused(client, parts, play, text_job, tmp_path):
    play(f"import time; open({str(tmp_path / 'began')!r}, 'w'); time.sleep(60)", preflights=1)
    first = asyncio.create_task(client.post(DEEP, json=text_job))
    await there(tmp_path / "began")
    answer = await client.post(DEEP, json=text_job)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "10")
    parts.preflights.close()
    assert (await first).status == 503


async def test_what_is_wrong_without_looking_deep_starts_nothing(client, play, text_job):
    play("raise SystemExit(1)")
    text_job["customization"] = {"rank": 0}
    problem = await (await client.post(DEEP, json=text_job)).json()
    assert [e["path"] for e in problem["errors"]] == ["customization.rank"]


async def test_a_backend_that_only_plays_has_nothing_to_examine(client, document):
    problem = await (await client.post(DEEP, json=document("a"))).json()
    assert (problem["status"], problem["errors"][0]["path"]) == (400, "deep")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_ends_leaves_no_deep_validation_behind(server, text_job, number: signal.Signals):
    server.start()
    asked = threading.Thread(target=_deep, args=(server, text_job), daemon=True)
    asked.start()
    pid = server.process.pid
    until = time.monotonic() + 60
    while not (children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        assert time.monotonic() < until
        time.sleep(0.02)
    # Until it examines: what it needs for that it loads after it asked to be told of the service's death.
    while b"/torch/" not in Path(f"/proc/{children[0]}/maps").read_bytes():
        assert time.monotonic() < until
        time.sleep(0.02)
    server.stop(number)
    while _lives(int(children[0])):
        assert time.monotonic() < until
        time.sleep(0.05)
    asked.join(30)


def _deep(server: Server, document: dict[str, Any]) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        server.request("POST", DEEP, document)


#: Writes its pid and that of a child, and waits.
FORKS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open({0!r} + ".new", "w").write(f"{{os.getpid()}} {{child.pid}}")
os.rename({0!r} + ".new", {0!r})
time.sleep(60)
"""


async def there(path: Path) -> None:
    """Wait until it exists."""
    async with asyncio.timeout(30):
        while not path.exists():
            await asyncio.sleep(0.02)


async def gone(pids: Path) -> None:
    """Wait until none of the processes is there."""
    numbers = pids.read_text().split()
    assert len(numbers) == 2
    until = time.monotonic() + 30
    while any(_lives(int(n)) for n in numbers):
        assert time.monotonic() < until, numbers
        await asyncio.sleep(0.05)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return b"zombie" not in Path(f"/proc/{pid}/status").read_bytes()
    except (ProcessLookupError, FileNotFoundError):
        return False
