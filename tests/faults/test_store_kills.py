"""A kill -9 at every statement of a submission and of an append loses nothing that was answered, and leaves no half."""

import subprocess
import sys
from pathlib import Path

import pytest

from common.clock import Clock
from common.secret import SecretBox
from service.store.base import EVERYTHING, Filters
from service.store.sqlite import open_store

KEY = bytes(32)
CHILD = Path(__file__).parent / "killed_store.py"


def run_child(folder: Path, action: str, statement: int) -> str:
    """Runs the action in a process that kills itself before its `statement`-th SQL statement; what it printed."""
    done = subprocess.run(
        [sys.executable, str(CHILD), str(folder), action, str(statement)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


async def look(folder: Path):
    store = await open_store(
        folder / "trainyard.db",
        SecretBox(KEY),
        Clock(),
        lambda events: None,
        writer_queue=100,
        event_bytes=65536,
        on_fatal=lambda: None,
    )
    try:
        found = await store.jobs(EVERYTHING, Filters(), None, 100)
        jobs = {r.job.job_id: r for r in found}
        events = {name: await store.events(r.job.uid, 0, 100) for name, r in jobs.items()}
        secrets = {name: await store.secrets(r.job.uid) for name, r in jobs.items()}
        cursors = {name: await store.cursor(r.job.uid, 1) for name, r in jobs.items()}
        due = await store.due_deliveries(1e12, 100)
    finally:
        await store.close()
    return jobs, events, secrets, cursors, due


@pytest.mark.slow
async def test_a_submission_is_whole_or_absent_wherever_the_kill_falls(tmp_path):
    statement, whole = 0, False
    while not whole:
        statement += 1
        folder = tmp_path / str(statement)
        folder.mkdir()
        printed = run_child(folder, "submit", statement)
        jobs, events, secrets, _, due = await look(folder)
        assert set(jobs) in ({"a"}, set())
        if "answered" in printed:
            assert "a" in jobs
        if "a" in jobs:
            assert [e.type for e in events["a"]] == ["job.queued"]
            assert jobs["a"].job.last_event_id == events["a"][-1].id
            assert secrets["a"] == {"base_model.huggingface_token": "hf_secret"}
            assert [d.type for d in due] == ["job.queued"]
        whole = "survived" in printed
    assert statement > 5


@pytest.mark.slow
async def test_an_append_is_whole_or_absent_wherever_the_kill_falls(tmp_path):
    statement, whole = 0, False
    while not whole:
        statement += 1
        folder = tmp_path / str(statement)
        folder.mkdir()
        run_child(folder, "submit", 0)
        printed = run_child(folder, "append", statement)
        jobs, events, _, cursors, _ = await look(folder)
        types = [e.type for e in events["a"]]
        assert types in (["job.queued"], ["job.queued", "job.running", "job.progress"])
        job = jobs["a"].job
        assert job.last_sequence == len(types)
        assert job.last_event_id == events["a"][-1].id
        assert (cursors["a"] is not None) == (len(types) == 3) == (job.status == "running")
        if "answered" in printed:
            assert len(types) == 3
        whole = "survived" in printed
    assert statement > 5
