"""`PATCH /train/{id}`: what may change, when it holds, and what is told."""

import asyncio

import pytest

from tests.integration.service.test_pause_and_resume import kinds, started, until

HELD = {"duration_seconds": 60, "steps": 600}


async def test_priority_and_labels_change_at_once_and_are_filtered_by(client, document):
    await client.post("/train", json=document(**HELD) | {"labels": {"team": "red", "old": "x"}})
    body = {"priority": 7, "labels": {"team": "blue", "old": None}}
    answer = await client.patch("/train/job-1", json=body)
    job = await answer.json()
    assert (answer.status, job["priority"], job["labels"]) == (202, 7, {"team": "blue"})
    found = await (await client.get("/train?label=team=blue")).json()
    assert [job["job_id"] for job in found["jobs"]] == ["job-1"]
    assert (await (await client.get("/train?label=team=red")).json())["jobs"] == []
    _, events = await kinds(client)
    changed = next(event for event in events if event["type"] == "job.changed")
    assert changed["data"]["old"] == {"priority": 0, "labels": {"team": "red", "old": "x"}}
    assert changed["data"]["new"] == {"priority": 7, "labels": {"team": "blue"}}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"job_id": "other"}, "job_id"),
        ({"tuning_parameters": {"batch_size": 2}}, "tuning_parameters.batch_size"),
        ({"tuning_parameters": {"learning_rate": -1}}, "tuning_parameters.learning_rate"),
        ({"tuning_parameters": {"learning_rate": None}}, "tuning_parameters.learning_rate"),
        ({"priority": 1000}, "priority"),
        ({"labels": {"a": 3}}, "labels.a"),
        ({"resources": {"gpus": 4}}, "resources.gpus"),
        ({}, "$"),
    ],
)
async def test_what_may_not_change_is_refused_with_its_path(client, document, body, path):
    await client.post("/train", json=document(**HELD))
    answer = await client.patch("/train/job-1", json=body)
    assert (answer.status, (await answer.json())["errors"][0]["path"]) == (400, path)


async def test_a_running_job_whose_backend_takes_no_changes_is_a_409_and_an_ended_one_too(client, document):
    await started(client, document)
    answer = await client.patch("/train/job-1", json={"tuning_parameters": {"learning_rate": 1e-5}})
    assert (answer.status, (await answer.json())["error"]["code"]) == (409, "not_supported")
    assert (await client.patch("/train/job-1", json={"priority": 3})).status == 202
    await client.delete("/train/job-1")
    await until(client, lambda job: job["ended_at"])
    assert (await client.patch("/train/job-1", json={"priority": 4})).status == 409


async def test_two_changes_at_once_are_both_kept(client, document):
    await started(client, document)
    one, two = await asyncio.gather(
        client.patch("/train/job-1", json={"labels": {"a": "1"}}),
        client.patch("/train/job-1", json={"labels": {"b": "2"}}),
    )
    assert (one.status, two.status) == (202, 202)
    job = await (await client.get("/train/job-1")).json()
    assert job["labels"] == {"a": "1", "b": "2"}
