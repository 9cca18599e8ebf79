"""Pause, resume and change over HTTP, with the simulated backend."""

import asyncio

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from service.app import make_app
from service.parts import open_parts

LONG = {"duration_seconds": 60, "steps": 600}


async def job_of(client, name="job-1"):
    return await (await client.get(f"/train/{name}")).json()


async def until(client, holds, name="job-1"):
    async with asyncio.timeout(20):
        while not holds(job := await job_of(client, name)):
            await asyncio.sleep(0.02)
    return job


async def kinds(client, name="job-1"):
    events = (await (await client.get(f"/train/{name}/events")).json())["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    return [event["type"] for event in events if event["type"] not in ("job.progress", "job.log")], events


async def started(client, document, **extra):
    assert (await client.post("/train", json=document(**{**LONG, **extra}))).status == 201
    return await until(client, lambda job: job["status"] == "running" and job["progress"])


@pytest.fixture
async def one_device(opened, settings):
    async with TestClient(TestServer(make_app(await opened(attrs.evolve(settings, local_devices="0"))))) as client:
        yield client


async def test_a_running_job_is_paused_and_resumed_under_its_id_with_its_sequence_going_on(client, document):
    await started(client, document)
    answer = await client.post("/train/job-1/pause")
    assert (answer.status, (await answer.json())["phase"]) == (202, "pausing")
    paused = await until(client, lambda job: job["phase"] == "paused")
    assert (paused["status"], paused["attempt"], paused["ended_at"]) == ("queued", 1, None)
    assert (await client.post("/train/job-1/pause")).status == 200
    answer = await client.post("/train/job-1/resume")
    assert answer.status == 202
    resumed = await until(client, lambda job: job["status"] == "running")
    assert resumed["attempt"] == 2
    names, events = await kinds(client)
    assert names[:9] == [
        *("job.queued", "job.submitted", "job.running", "job.phase", "job.phase", "job.paused"),
        *("job.queued", "job.submitted", "job.running"),
    ]
    assert [e["attempt"] for e in events if e["type"] == "job.queued"] == [1, 2]
    await client.post("/train/job-1/cancel")
    await until(client, lambda job: job["status"] == "cancelled")


async def test_pausing_gives_the_device_to_the_next_job(one_device, document):
    client = one_device
    await started(client, document, devices=True)
    await client.post("/train", json=document("next", devices=True))
    await client.post("/train/job-1/pause")
    assert (await until(client, lambda job: job["ended_at"], "next"))["status"] == "succeeded"
    assert (await job_of(client))["phase"] == "paused"


async def test_a_queued_job_is_held_at_once_and_never_starts_until_it_is_resumed(one_device, document):
    client = one_device
    await started(client, document, devices=True)
    await client.post("/train", json=document("held", devices=True))
    answer = await client.post("/train/held/pause")
    assert (answer.status, (await answer.json())["phase"]) == (202, "paused")
    await client.delete("/train/job-1")
    await until(client, lambda job: job["ended_at"])
    await asyncio.sleep(0.2)
    assert (await job_of(client, "held"))["phase"] == "paused"
    assert (await client.post("/train/held/resume", json={})).status == 202
    done = await until(client, lambda job: job["ended_at"], "held")
    assert (done["status"], done["attempt"]) == ("succeeded", 2)


async def test_cancel_of_a_paused_job_is_immediate_and_cancel_wins_while_it_is_pausing(client, document):
    await started(client, document)
    await client.post("/train/job-1/pause")
    await until(client, lambda job: job["phase"] == "paused")
    answer = await client.post("/train/job-1/cancel")
    assert (await answer.json())["status"] == "cancelled"
    names, _ = await kinds(client)
    assert names[-1] == "job.cancelled"
    assert (await client.post("/train/job-1/pause")).status == 409


async def test_a_paused_job_stays_paused_across_a_restart(settings, document):
    settings.data_dir.mkdir()
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        await started(client, document)
        await client.post("/train/job-1/pause")
        await until(client, lambda job: job["phase"] == "paused")
    async with open_parts(settings, pytest.fail) as parts, TestClient(TestServer(make_app(parts))) as client:
        await asyncio.sleep(0.2)
        assert (await job_of(client))["phase"] == "paused"
        changed = await client.patch("/train/job-1", json={"tuning_parameters": {"max_steps": 7}})
        assert changed.status == 202
        assert (await client.post("/train/job-1/resume")).status == 202
        await until(client, lambda job: job["status"] == "running")


async def test_resume_with_other_parameters_is_recorded_and_used(client, document):
    await client.post("/train", json=document(outcome="failed"))
    await until(client, lambda job: job["status"] == "failed")
    given = {"tuning_parameters": {"num_epochs": 5}, "resources": {"max_duration_minutes": 30}}
    assert (await client.post("/train/job-1/resume", json=given)).status == 202
    job = await until(client, lambda job: job["status"] == "failed" and job["attempt"] == 2)
    spec = job["metadata"]["job_spec"]
    assert (spec["request"]["tuning_parameters"]["num_epochs"], spec["deadline_minutes"]) == (5, 30)
    assert job["metadata"]["request"].get("tuning_parameters") is None
    (entry,) = spec["changes"]
    assert entry["values"] == {"tuning_parameters.num_epochs": 5, "resources.max_duration_minutes": 30}
    _, events = await kinds(client)
    again = [e for e in events if e["type"] == "job.queued"][1]
    assert again["data"] == {"resumed_from": None, "changes": entry["values"]}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"tuning_parameters": {"num_epoch": 5}}, "tuning_parameters.num_epoch"),
        ({"tuning_parameters": {"num_epochs": "many"}}, "tuning_parameters.num_epochs"),
        ({"backend": "nowhere"}, "backend"),
        ({"secrets": {"base_model.model_name": "x"}}, "secrets.base_model.model_name"),
        ({"secrets": {"datasets[7].auth.token": "x"}}, "secrets.datasets[7].auth.token"),
        ({"step": 3}, "step"),
    ],
)
async def test_a_resume_that_can_not_be_is_refused_with_the_path(client, document, body, path):
    await client.post("/train", json=document(outcome="failed"))
    await until(client, lambda job: job["status"] == "failed")
    answer = await client.post("/train/job-1/resume", json=body)
    assert (answer.status, (await answer.json())["errors"][0]["path"]) == (400, path)
    assert (await job_of(client))["status"] == "failed"


async def test_a_new_token_given_with_a_resume_is_kept_sealed_and_shown_to_nobody(opened, document):
    parts = await opened()
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document(outcome="failed"))
        job = await until(client, lambda job: job["status"] == "failed")
        body = {"secrets": {"base_model.huggingface_token": "hf_brand_new"}}
        answer = await client.post("/train/job-1/resume", json=body)
        assert answer.status == 202
        assert "hf_brand_new" not in await answer.text()
        assert await parts.store.secrets(job["uid"]) == {"base_model.huggingface_token": "hf_brand_new"}


async def test_a_succeeded_job_is_not_resumed_and_the_answer_names_what_can_be_done(client, document):
    await client.post("/train", json=document())
    await until(client, lambda job: job["status"] == "succeeded")
    answer = await client.post("/train/job-1/resume")
    detail = (await answer.json())["detail"]
    assert answer.status == 409
    assert "names the result as base_model.model_name (a clone" in detail
    assert "is not in this version" in detail
    assert answer.headers["x-should-retry"] == "false"


async def test_a_running_job_is_not_resumed(client, document):
    await started(client, document)
    assert (await client.post("/train/job-1/resume")).status == 409


async def test_a_checkpoint_is_refused_where_the_backend_has_none(client, document):
    await started(client, document)
    answer = await client.post("/train/job-1/checkpoint")
    assert (answer.status, (await answer.json())["error"]["code"]) == (409, "not_supported")
