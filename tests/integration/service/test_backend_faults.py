"""A backend's fault that a caller meets is told under the backend's name, and the log has it in full."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from backends.simulated.backend import SimulatedBackend
from common.backend import Capacity
from common.errors import BackendRefused
from service.app import make_app
from service.parts import open_parts
from tests.integration.service.test_pause_and_resume import until


async def _asynchronous(self, request):
    return []


def _raising(self, request):
    raise ValueError("hf_a_secret_of_the_document")


@pytest.mark.parametrize(
    ("method", "wrong", "fault"),
    [
        ("validate_request", _raising, "ValueError"),
        ("validate_request", lambda self, request: None, "must return a list, got NoneType"),
        ("validate_request", lambda self, request: ["gpus must be 0"], "must return a list of FieldError, got str"),
        ("validate_request", _asynchronous, "must be a plain method, not an async one"),
        ("build_job_spec", _raising, "ValueError"),
        ("build_job_spec", lambda self, request: {"argv": ["true"]}, "must return a JobSpec, got dict"),
        ("build_job_spec", lambda self, request: Path("/no/such/file").read_text(), "FileNotFoundError"),
    ],
)
async def test_a_method_that_answers_wrongly_is_named_with_its_backend(
    client, document, monkeypatch, method, wrong, fault
):
    monkeypatch.setattr(SimulatedBackend, method, wrong)
    with capture_logs() as logs:
        answer = await client.post("/train", json=document())
    problem = await answer.json()
    assert (answer.status, problem["error"]["code"]) == (500, "internal")
    assert f"backend 'simulated' failed in {method}()" in problem["detail"]
    assert "hf_a_secret" not in problem["detail"]
    (line,) = [line for line in logs if line["event"] == "a backend failed"]
    assert (line["backend"], line["method"]) == ("simulated", method)
    assert fault in f"{problem['detail']} {line['reason']}"


async def _none(self, *values):
    return None


def _plain(self, *values):
    return Capacity()


async def _of_one_number(self, *values):
    return Capacity(free=5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (_none, "capacity() must return a Capacity, got NoneType"),
        (_plain, "can't be used in 'await'"),
    ],
)
async def test_a_capacity_of_another_kind_lets_the_job_wait_and_the_service_live(
    client, document, monkeypatch, wrong, said
):
    real = SimulatedBackend.capacity
    monkeypatch.setattr(SimulatedBackend, "capacity", wrong)
    await client.post("/train", json=document())
    assert said in (await until(client, lambda job: job["detail"], "job-1"))["detail"]
    monkeypatch.setattr(SimulatedBackend, "capacity", real)
    assert (await until(client, lambda job: job["ended_at"], "job-1"))["status"] == "succeeded"


async def test_a_capacity_that_can_not_be_counted_with_ends_nothing_else(client, document, monkeypatch):
    real = SimulatedBackend.capacity
    monkeypatch.setattr(SimulatedBackend, "capacity", _of_one_number)
    with capture_logs() as logs:
        await client.post("/train", json=document())
        async with asyncio.timeout(20):
            while not any(line["event"].startswith("dispatch failed") for line in logs):
                await asyncio.sleep(0.02)
    monkeypatch.setattr(SimulatedBackend, "capacity", real)
    assert (await until(client, lambda job: job["ended_at"], "job-1"))["status"] == "succeeded"


async def test_a_submit_that_returns_no_handle_fails_its_job_and_says_so(client, document, monkeypatch):
    monkeypatch.setattr(SimulatedBackend, "submit", _none)
    await client.post("/train", json=document())
    job = await until(client, lambda job: job["ended_at"], "job-1")
    assert (job["reason"], job["detail"]) == (
        "rejected",
        "failed (rejected): TypeError: submit() must return a Handle, got NoneType",
    )


async def test_a_refusal_fails_its_job_with_the_backends_own_words_and_no_traceback(client, document, monkeypatch):
    async def refuses(self, *values):
        raise BackendRefused("there is no such quality of service here")

    monkeypatch.setattr(SimulatedBackend, "submit", refuses)
    with capture_logs() as logs:
        await client.post("/train", json=document())
        job = await until(client, lambda job: job["ended_at"], "job-1")
    assert (job["reason"], job["detail"]) == (
        "rejected",
        "failed (rejected): there is no such quality of service here",
    )
    assert not [line for line in logs if line.get("exc_info")]


async def test_what_can_not_be_stored_is_asked_for_less_and_less_often(client, document, monkeypatch):
    async def wrong(self, handle, cursor):
        yield "running"

    monkeypatch.setattr(SimulatedBackend, "watch", wrong)
    with capture_logs() as logs:
        await client.post("/train", json=document())
        async with asyncio.timeout(20):
            while len(waits := [line["seconds"] for line in logs if "is tried again" in line["event"]]) < 3:
                await asyncio.sleep(0.05)
        assert waits[:3] == [0.5, 1.0, 2.0]
        assert "can't be watched" in (await until(client, lambda job: job["detail"], "job-1"))["detail"]
    monkeypatch.undo()
    assert (await until(client, lambda job: job["ended_at"], "job-1"))["status"] == "succeeded"


@asynccontextmanager
async def _served(settings):
    async with (
        open_parts(settings, lambda: pytest.fail("the service called itself broken")) as parts,
        TestClient(TestServer(make_app(parts))) as client,
    ):
        yield client


async def test_a_service_that_can_watch_takes_back_what_the_one_before_said(settings, document, monkeypatch):
    async def deaf(self, handle, cursor):
        raise ZeroDivisionError
        yield

    settings.data_dir.mkdir(exist_ok=True)
    async with _served(settings) as client:
        await client.post("/train", json=document(duration_seconds=600, steps=60000))
        await until(client, lambda job: job["status"] == "running", "job-1")
    with monkeypatch.context() as patched:
        patched.setattr(SimulatedBackend, "watch", deaf)
        async with _served(settings) as client:
            await until(client, lambda job: "can't be watched" in (job["detail"] or ""), "job-1")
    async with _served(settings) as client:
        job = await until(client, lambda job: job["detail"] is None, "job-1")
        assert job["status"] == "running"
