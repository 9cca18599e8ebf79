"""Lists, cancel, metrics, logs, and what is absent (contract train.md, 3)."""

import asyncio

import pytest

LONG = {"duration_seconds": 60, "steps": 100}


async def show(client, job_id):
    return await (await client.get(f"/train/{job_id}")).json()


async def until(client, job_id, *statuses):
    async with asyncio.timeout(20):
        while (job := await show(client, job_id))["status"] not in statuses:
            await asyncio.sleep(0.02)
    return job


async def test_lists_are_newest_first_by_pages_without_metadata(client, document):
    for n in range(5):
        await client.post("/train", json=document(f"j{n}"))
    seen, cursor = [], ""
    while cursor is not None:
        page = await (await client.get(f"/train?limit=2{cursor}")).json()
        seen += [job["job_id"] for job in page["jobs"]]
        assert all("metadata" not in job for job in page["jobs"])
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    assert seen == ["j4", "j3", "j2", "j1", "j0"]


async def test_lists_are_filtered_by_status_backend_and_labels(client, document):
    await client.post("/train", json=document("a") | {"labels": {"team": "x", "run": "1"}})
    await client.post("/train", json=document("b", **LONG) | {"labels": {"team": "x", "run": "2"}})
    await until(client, "a", "succeeded")
    await until(client, "b", "running")

    async def ids(query):
        return [job["job_id"] for job in (await (await client.get(f"/train?{query}")).json())["jobs"]]

    assert await ids("status=running") == ["b"]
    assert await ids("status=running&status=succeeded") == ["b", "a"]
    assert await ids("label=team=x&label=run=1") == ["a"]
    assert await ids("backend=local") == []
    assert await ids("backend=simulated") == ["b", "a"]
    await client.post("/train/b/cancel")


@pytest.mark.parametrize("query", ["cursor=damaged", "status=odd", "label=odd", "limit=0", "limit=x", "cursor=c2VxOng"])
async def test_bad_filters_are_400_and_name_the_parameter(client, query):
    answer = await client.get(f"/train?{query}")
    assert (answer.status, (await answer.json())["errors"][0]["path"]) == (400, query.partition("=")[0])


async def test_a_limit_that_is_too_large_is_clamped(client):
    assert (await client.get("/train?limit=100000")).status == 200


async def test_cancel_of_a_running_job_ends_it_once(client, document):
    await client.post("/train", json=document("a", **LONG))
    await until(client, "a", "running")
    answer = await client.post("/train/a/cancel")
    assert (answer.status, (await answer.json())["phase"]) == (202, "stopping")
    job = await until(client, "a", "cancelled")
    assert (job["reason"], job["phase"]) == ("cancelled", None)
    assert (await client.post("/train/a/cancel")).status == 200
    assert (await client.delete("/train/a")).status == 409
    events = (await (await client.get("/train/a/events")).json())["events"]
    assert [e["type"] for e in events].count("job.cancelled") == 1


async def test_cancel_of_a_job_that_waits_ends_it_at_once(opened, settings, document):
    import attrs
    from aiohttp.test_utils import TestClient, TestServer

    from service.app import make_app

    parts = await opened(attrs.evolve(settings, local_devices="0"))
    async with TestClient(TestServer(make_app(parts))) as client:
        await client.post("/train", json=document("first", devices=True, **LONG))
        await until(client, "first", "running")
        await client.post("/train", json=document("second", devices=True))
        async with asyncio.timeout(30):
            while (await show(client, "second"))["detail"] is None:
                await asyncio.sleep(0.02)
        assert (await show(client, "second"))["detail"] == "waits for 1 GPU, 0 free"
        answer = await client.delete("/train/second")
        assert (answer.status, (await answer.json())["status"]) == (202, "cancelled")
        await client.post("/train", json=document("third", devices=True))
        await client.post("/train", json=document("free"))
        assert (await until(client, "free", "succeeded"))["job_id"] == "free"
        await client.post("/train/first/cancel")
        await until(client, "third", "succeeded")


async def test_cancel_of_an_ended_job_is_a_conflict(client, document):
    await client.post("/train", json=document("a"))
    await until(client, "a", "succeeded")
    for method, path in (("POST", "/train/a/cancel"), ("DELETE", "/train/a")):
        answer = await client.request(method, path)
        assert (answer.status, answer.headers["x-should-retry"]) == (409, "false")


@pytest.mark.parametrize(
    ("extra", "status", "reason"),
    [
        ({"outcome": "failed"}, "failed", "exit_code"),
        ({"outcome": "lost"}, "failed", "lost"),
        ({"outcome": "succeeded"}, "succeeded", None),
    ],
)
async def test_simulated_outcomes(client, document, extra, status, reason):
    await client.post("/train", json=document("a", **extra))
    job = await until(client, "a", "succeeded", "failed")
    assert (job["status"], job["reason"]) == (status, reason)


async def test_a_job_past_its_time_fails_for_that_reason(client, document):
    await client.post("/train", json=document("a", outcome="hang") | {"resources": {"max_duration_minutes": 0.005}})
    job = await until(client, "a", "failed")
    assert job["reason"] == "time_limit"


async def test_metrics_are_one_entry_a_step(client, document):
    await client.post("/train", json=document("a"))
    await until(client, "a", "succeeded")
    found = await (await client.get("/train/a/metrics?limit=3")).json()
    assert [m["step"] for m in found["metrics"]] == [1, 2, 3]
    assert found["next_after"] == 3
    rest = await (await client.get("/train/a/metrics?after=3&names=loss")).json()
    assert [set(m) for m in rest["metrics"]] == [{"step", "time", "attempt", "loss"}]
    assert rest["next_after"] is None


async def test_logs_by_tail_by_offset_and_followed(client, document):
    await client.post("/train", json=document("a", log_lines_per_step=3))
    followed = await (await client.get("/train/a/logs?follow=true")).text()
    assert followed.count("\n") == 12
    whole = await client.get("/train/a/logs")
    assert await whole.text() == followed
    tail = await (await client.get("/train/a/logs?tail=2")).text()
    assert followed.endswith(tail)
    assert tail.count("\n") == 2
    rest = await client.get(f"/train/a/logs?offset={whole.headers['X-Log-Offset']}")
    assert await rest.text() == ""
    assert (await client.get("/train/a/logs?tail=1&offset=0")).status == 400


async def test_unknown_jobs_are_404_everywhere(client):
    for path in ("", "/events", "/logs", "/metrics", "/checkpoints"):
        answer = await client.get(f"/train/nope{path}")
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "not_found")
    for method, path in (("POST", "/train/nope/cancel"), ("DELETE", "/train/nope")):
        assert (await client.request(method, path)).status == 404


async def test_what_comes_later_says_so(client, document):
    await client.post("/train", json=document("a"))
    answer = await client.post("/train/a/clone")
    assert (answer.status, "not in this version" in (await answer.json())["detail"]) == (404, True)
    assert (await client.get("/usage")).status == 404
    for method, path, api in (
        ("GET", "/api/training/status", "SimpleTuner"),
        ("POST", "/api/queue/submit", "SimpleTuner"),
        ("POST", "/download-images", "Flux Train"),
        ("GET", "/status/abc", "Flux Train"),
    ):
        answer = await client.request(method, path)
        assert (answer.status, api in (await answer.json())["detail"]) == (404, True)


async def test_backends_are_listed_with_what_they_have(client):
    found = {b["name"]: b for b in (await (await client.get("/backends")).json())["backends"]}
    assert found["local"]["default"] is True
    assert found["simulated"]["simulated"] is True
    assert "steps" in found["simulated"]["options_schema"]["properties"]
    assert set(found["local"]) == {
        *("name", "version", "default", "simulated", "healthy", "reason", "capabilities", "capacity", "options_schema"),
    }


async def test_health_readiness_and_numbers(client, document):
    assert await (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert (ready.status, (await ready.json())["ready"]) == (200, True)
    await client.post("/train", json=document("a"))
    assert "trainyard_jobs_accepted_total 1.0" in await (await client.get("/metrics")).text()


async def test_a_failed_job_says_why_in_its_document(client, document):
    await client.post("/train", json=document("a", outcome="failed"))
    job = await until(client, "a", "failed")
    assert job["detail"] == "failed (exit_code): exit code 1"
