"""The log folder of a job's document is kept, through restarts, kills and full disks."""

import asyncio
import json
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from common.clock import new_id
from common.event import JobProgress, JobRunning, JobSucceeded
from common.settings import Settings
from service.store.base import NewJob
from tests.mirrors import SECRET, running, write
from tests.stores import store_in


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", mirror_seconds=0.05)


@pytest.fixture
async def store(tmp_path, settings):
    settings.data_dir.mkdir()
    async with store_in(tmp_path) as made:
        yield made


async def add(store, name="job-1"):
    uid = new_id()
    texts = {"document": "{}", "spec": "{}", "warnings": "[]"}
    secrets = {"base_model.huggingface_token": SECRET}
    new = NewJob(
        uid=uid, job_id=name, backend="local", priority=0, lane="", labels={}, hooks={}, secrets=secrets, **texts
    )
    await store.add_job(new)
    return uid


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def text(path):
    """What is there at this moment: the mirror renames files of others while a test looks."""
    with suppress(FileNotFoundError):
        return path.read_text()
    return ""


def lines(path):
    return [json.loads(line) for line in text(path).splitlines()]


def served(events):
    return [json.loads(event.text) for event in events]


async def test_a_folder_is_kept_while_the_job_runs_and_complete_after_its_end(store, settings, tmp_path):
    uid, folder = await add(store), tmp_path / "logs" / "job-1"
    async with running(store, settings) as mirror:
        mirror.watch(uid, "job-1", folder)
        await store.append(uid, [JobRunning(), JobProgress(step=1, loss=2.5)])
        write(settings, f"token {SECRET[:6]}")
        await until(lambda: len(lines(folder / "events.jsonl")) == 3)
        assert mirror.unfinished == 1
        write(settings, f"{SECRET[6:]} done\nlast, without an end")
        await store.append(uid, [JobProgress(step=2, loss=1.5), JobSucceeded(step=2)])
        mirror.watch(uid, "job-1", folder)
        mirror.finish(uid)
        await until(lambda: not mirror.unfinished and not [*(settings.data_dir / "mirrors").iterdir()])
    assert (folder / "train.log").read_text() == "token •••• done\nlast, without an end"
    assert lines(folder / "events.jsonl") == served(await store.events(uid, 0, 100))
    metrics = lines(folder / "metrics.jsonl")
    assert [(m["step"], m["loss"], m["attempt"]) for m in metrics] == [(1, 2.5, 1), (2, 1.5, 1)]
    assert all(m["time"].endswith("Z") for m in metrics)
    assert not list((settings.data_dir / "mirrors").iterdir())


async def test_a_restart_goes_on_where_the_files_end_and_mends_a_line_cut_by_a_kill(store, settings, tmp_path):
    uid, folder = await add(store), tmp_path / "logs"
    write(settings, f"first {SECRET}\n")
    async with running(store, settings) as mirror:
        mirror.watch(uid, "job-1", folder)
        await store.append(uid, [JobRunning(), JobProgress(step=1)])
        await until(lambda: lines(folder / "metrics.jsonl") and (folder / "train.log").exists())
    for name in ("train.log", "metrics.jsonl", "events.jsonl"):
        with (folder / name).open("a") as file:
            file.write('{"cut by a ki')
    write(settings, "second\n")
    await store.append(uid, [JobProgress(step=2), JobSucceeded(step=2)])
    async with running(store, settings) as mirror:  # nobody calls watch: the job ended while the service was down
        await until(lambda: not [*(settings.data_dir / "mirrors").iterdir()] and not mirror.unfinished)
    assert (folder / "train.log").read_text() == "first ••••\nsecond\n"
    assert [m["step"] for m in lines(folder / "metrics.jsonl")] == [1, 2]
    assert lines(folder / "events.jsonl") == served(await store.events(uid, 0, 100))


async def test_a_folder_that_cannot_be_written_is_told_and_tried_again(store, settings, tmp_path):
    uid, folder = await add(store), tmp_path / "logs" / "job-1"
    (tmp_path / "logs").write_text("a file where the folder should be")
    write(settings, "text\n")
    with capture_logs() as told:
        async with running(store, settings) as mirror:
            mirror.watch(uid, "job-1", folder)
            mirror.finish(uid)
            await until(lambda: len(told) >= 2)
            (tmp_path / "logs").unlink()
            await until(lambda: not mirror.unfinished)
    assert all(line["job_id"] == "job-1" and line["log_level"] == "warning" for line in told)
    assert "logs" in told[0]["error"]
    assert (folder / "train.log").read_text() == "text\n"


async def test_files_of_somebody_else_are_set_aside_and_lost_ones_written_anew(store, settings, tmp_path):
    uid, folder = await add(store), tmp_path / "logs"
    folder.mkdir()
    (folder / "train.log").write_text("not ours")
    write(settings, "ours\n")
    async with running(store, settings) as mirror:
        mirror.watch(uid, "job-1", folder)
        await until(lambda: text(folder / "train.log") == "ours\n")
        (folder / "train.log").unlink()
        write(settings, "more\n")
        await until(lambda: text(folder / "train.log") == "ours\nmore\n")
    assert (folder / "train.log.1").read_text() == "not ours"


async def test_past_the_limit_head_and_tail_are_kept(store, settings, tmp_path):
    settings = Settings(data_dir=settings.data_dir, mirror_seconds=0.05, max_train_log_bytes=4 << 20)
    uid, folder = await add(store), tmp_path / "logs"
    write(settings, "head\n" + "x" * (6 << 20) + "\ntail\n")
    async with running(store, settings) as mirror:
        mirror.watch(uid, "job-1", folder)
        mirror.finish(uid)
        await until(lambda: not mirror.unfinished)
    kept = text(folder / "train.log")
    assert kept.startswith("head\n") and kept.endswith("x\ntail\n") and "bytes left out" in kept
    assert len(kept) < (4 << 20) + 100


async def test_a_purged_job_is_forgotten(store, settings, tmp_path):
    async with running(store, settings) as mirror:
        mirror.watch(new_id(), "gone", tmp_path / "logs")
        await until(lambda: not mirror.unfinished)
    assert not (tmp_path / "logs" / "train.log").exists()
