"""The log folder of a job's document in S3 (moto's server)."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from common.access import Auth
from common.clock import new_id
from common.event import JobProgress, JobRunning, JobSucceeded
from common.settings import Settings
from service.mirror_objects import RemoteFolder
from service.store.base import NewJob
from tests.mirrors import SECRET, running, write
from tests.s3 import Gate
from tests.stores import store_in


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data", mirror_seconds=0.1)


@pytest.fixture
async def store(tmp_path, settings):
    settings.data_dir.mkdir()
    async with store_in(tmp_path) as made:
        yield made


async def add(store, auth=None, secrets=None):
    uid = new_id()
    texts = {"document": json.dumps({"artifacts": {"auth": auth}}), "spec": "{}", "warnings": "[]"}
    held = {"base_model.huggingface_token": SECRET, **(secrets or {})}
    new = NewJob(
        uid=uid, job_id="job-1", backend="local", priority=0, lane="", labels={}, hooks={}, secrets=held, **texts
    )
    await store.add_job(new)
    return uid


async def until(condition, seconds=60):
    async with asyncio.timeout(seconds):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def text(s3, name):
    return s3.get(f"logs/job-1/{name}").decode() if f"logs/job-1/{name}" in s3.objects("logs/") else ""


async def test_logs_metrics_and_events_are_put_while_the_job_runs_and_completed(store, settings, s3):
    uid = await add(store)
    write(settings, f"token {SECRET}\n")
    async with running(store, settings) as mirror:
        mirror.watch(uid, "job-1", s3.uri("logs/job-1"))
        await store.append(uid, [JobRunning(), JobProgress(step=1, loss=2.5)])
        await until(lambda: text(s3, "metrics.jsonl") and text(s3, "train.log"))
        write(settings, "last, without an end")
        await store.append(uid, [JobSucceeded(step=1)])
        mirror.finish(uid)
        await until(lambda: not mirror.unfinished and not [*(settings.data_dir / "mirrors").iterdir()])
    assert text(s3, "train.log") == "token ••••\nlast, without an end"
    assert [json.loads(line)["loss"] for line in text(s3, "metrics.jsonl").splitlines()] == [2.5]
    assert text(s3, "events.jsonl").splitlines() == [event.text for event in await store.events(uid, 0, 100)]


async def test_what_a_killed_service_left_undone_is_completed_by_the_next(store, settings, s3):
    uid = await add(store)
    write(settings, "first\n")
    async with running(store, settings) as mirror:
        mirror.watch(uid, "job-1", s3.uri("logs/job-1/"))
        await until(lambda: text(s3, "train.log"))
    write(settings, "second\n")
    await store.append(uid, [JobRunning(), JobSucceeded(step=2)])
    async with running(store, settings) as mirror:
        await until(lambda: text(s3, "train.log") == "first\nsecond\n" and not mirror.unfinished)


async def test_a_lost_network_is_told_and_waited_for(store, settings, s3, monkeypatch):
    gate = Gate(urlsplit(s3.url).port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    uid = await add(store)
    write(settings, "text\n")
    try:
        with capture_logs() as told:
            async with running(store, settings) as mirror:
                gate.shut = True
                mirror.watch(uid, "job-1", s3.uri("logs/job-1"))
                mirror.finish(uid)
                await until(lambda: told, 30)
                gate.shut = False
                await until(lambda: not mirror.unfinished)
    finally:
        gate.close()
    assert told[0]["folder"] == s3.uri("logs/job-1") and told[0]["job_id"] == "job-1"
    assert text(s3, "train.log") == "text\n"


async def test_the_credentials_of_the_document_are_used_and_never_shown(store, settings, s3):
    held = {"artifacts.auth.aws_access_key_id": "AKIAWRONG", "artifacts.auth.aws_secret_access_key": "s3cr3t-value"}
    auth = {"aws_access_key_id": "••••", "aws_secret_access_key": "••••", "aws_region": "us-east-1"}
    uid = await add(store, auth, held)
    s3.only_known_callers(0)
    try:
        with capture_logs() as told:
            async with running(store, settings) as mirror:
                mirror.watch(uid, "job-1", s3.uri("logs/job-1"))
                await until(lambda: told)
    finally:
        s3.only_known_callers(None)
    assert "artifacts.auth" in told[0]["error"] and "s3cr3t-value" not in json.dumps(told)


def test_objects_of_another_job_are_set_aside_and_large_ones_put_rarely(s3, tmp_path, monkeypatch):
    s3.put("logs/job-1/train.log", b"not ours")
    folder = RemoteFolder(s3.uri("logs/job-1"), Auth(at="artifacts.auth"), "uid")
    (tmp_path / "train.log").write_bytes(b"x" * (9 << 20))
    folder.keep(tmp_path, ended=False)
    assert s3.get("logs/job-1/train.log.1") == b"not ours" and len(s3.get("logs/job-1/train.log")) == 9 << 20
    with (tmp_path / "train.log").open("ab") as file:
        file.write(b"more")
    folder.keep(tmp_path, ended=False)
    assert len(s3.get("logs/job-1/train.log")) == 9 << 20, "9 MiB are put every two seconds"
    folder.keep(tmp_path, ended=True)
    assert s3.get("logs/job-1/train.log").endswith(b"more")
    again = RemoteFolder(s3.uri("logs/job-1"), Auth(at="artifacts.auth"), "uid")
    again.keep(tmp_path, ended=True)
    assert "logs/job-1/train.log.2" not in s3.objects()
