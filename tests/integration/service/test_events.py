"""Events over HTTP: pages and server-sent events (contract train.md, 4)."""

import asyncio
import itertools
import json

import attrs
from aiohttp.test_utils import TestClient, TestServer

from service.app import make_app

SSE = {"Accept": "text/event-stream"}


async def read_stream(client, path, *, until=None, **headers):
    """The messages of a stream until it closes, or until `until` of them came."""
    messages = []
    async with asyncio.timeout(20), client.get(path, headers={**SSE, **headers}) as answer:
        if answer.status != 200:
            return answer.status
        message = {}
        async for line in answer.content:
            name, found, value = line.decode().rstrip("\n").partition(": ")
            if found and name:
                message[name] = value
            elif not name and message:
                messages.append(message)
                message = {}
            if until is not None and len(messages) >= until:
                break
    return messages


async def finished(client, document, job_id="a", **extra):
    await client.post("/train", json=document(job_id, **extra))
    async with asyncio.timeout(20):
        while True:
            job = await (await client.get(f"/train/{job_id}")).json()
            if job["ended_at"]:
                return job
            await asyncio.sleep(0.02)


async def test_the_stream_and_the_pages_tell_the_same_without_gaps(client, document):
    job = await finished(client, document)
    streamed = [json.loads(m["data"]) for m in await read_stream(client, "/train/a/events")]
    paged, after = [], 0
    while after is not None:
        page = await (await client.get(f"/train/a/events?after={after}&limit=2")).json()
        paged += page["events"]
        after = page["next_after"]
    assert streamed == paged
    assert [e["sequence"] for e in paged] == list(range(1, job["last_sequence"] + 1))
    assert [e["type"] for e in paged][:3] == ["job.queued", "job.submitted", "job.running"]
    assert paged[-1]["type"] == "job.succeeded"
    assert all(a["time"] <= b["time"] for a, b in itertools.pairwise(paged))


async def test_each_message_has_the_events_id_and_type(client, document):
    await finished(client, document)
    for message in await read_stream(client, "/train/a/events"):
        data = json.loads(message["data"])
        assert (message["id"], message["event"]) == (str(data["id"]), data["type"])


async def test_a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice(client, document):
    await client.post("/train", json=document("a", duration_seconds=1, steps=20))
    seen = await read_stream(client, "/train/a/events", until=3)
    while seen[-1]["event"] != "job.succeeded":
        more = await read_stream(client, "/train/a/events", until=4, **{"Last-Event-ID": seen[-1]["id"]})
        seen += more
    sequences = [json.loads(m["data"])["sequence"] for m in seen]
    assert sequences == list(range(1, len(sequences) + 1))


async def test_the_header_wins_over_the_query(client, document):
    job = await finished(client, document)
    cursor = str(job["last_event_id"] - 1)
    messages = await read_stream(client, "/train/a/events?after=0", **{"Last-Event-ID": cursor})
    assert [m["event"] for m in messages] == ["job.succeeded"]


async def test_a_reader_that_has_the_end_gets_204(client, document):
    job = await finished(client, document)
    assert await read_stream(client, "/train/a/events", **{"Last-Event-ID": str(job["last_event_id"])}) == 204


async def test_another_jobs_id_is_a_valid_position(client, document):
    first = await finished(client, document, "a")
    await finished(client, document, "b")
    messages = await read_stream(client, "/train/b/events", **{"Last-Event-ID": str(first["last_event_id"])})
    assert messages[0]["event"] == "job.queued"


async def test_a_cursor_that_is_none_of_ours_gets_a_reset_and_the_whole_stream(client, document):
    job = await finished(client, document)
    for cursor in ("abc", str(job["last_event_id"] + 100), "-1", "1" * 30):
        messages = await read_stream(client, "/train/a/events", **{"Last-Event-ID": cursor})
        assert messages[0]["event"] == "reset"
        assert "id" not in messages[0]
        assert set(json.loads(messages[0]["data"])) == {"reason", "from"}
        assert len(messages) == 1 + job["last_sequence"]


async def test_the_stream_of_all_jobs_begins_now_or_at_its_cursor(client, document):
    await finished(client, document, "a")
    whole = asyncio.create_task(read_stream(client, "/events?after=0", until=12))
    fresh = asyncio.create_task(read_stream(client, "/events", until=3))
    await asyncio.sleep(0.2)
    await finished(client, document, "b")
    assert json.loads((await fresh)[0]["data"])["job_id"] == "b"
    ids = [int(m["id"]) for m in await whole]
    assert ids == sorted(set(ids))
    assert ids[0] == 1


async def test_readers_that_fall_out_of_the_ring_read_from_the_store(opened, settings, document):
    parts = await opened(attrs.evolve(settings, ring_bytes=4096))
    async with TestClient(TestServer(make_app(parts))) as client:
        await asyncio.gather(*(finished(client, document, f"j{n}", steps=30, duration_seconds=0.1) for n in range(4)))
        for n in range(4):
            messages = await read_stream(client, f"/train/j{n}/events")
            sequences = [json.loads(m["data"])["sequence"] for m in messages]
            assert sequences == list(range(1, len(sequences) + 1))
        assert parts.bus.oldest_kept > 0


async def test_many_readers_of_a_live_job_see_the_same(client, document):
    await client.post("/train", json=document("a", steps=40, duration_seconds=0.5))
    streams = await asyncio.gather(*(read_stream(client, "/train/a/events") for _ in range(20)))
    assert all(stream == streams[0] for stream in streams)
    assert streams[0][-1]["event"] == "job.succeeded"


async def test_an_idle_stream_is_kept_open_by_comments(opened, settings, document):
    parts = await opened(attrs.evolve(settings, ping_seconds=0.1))
    async with TestClient(TestServer(make_app(parts))) as client:
        async with client.get("/events", headers=SSE) as answer:
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            lines = [await answer.content.readline() for _ in range(6)]
        assert sum(line.startswith(b": ping") for line in lines) >= 1


async def test_too_many_streams_are_503(opened, settings, document):
    parts = await opened(attrs.evolve(settings, max_subscribers=1))
    async with TestClient(TestServer(make_app(parts))) as client, client.get("/events", headers=SSE):
        answer = await client.get("/events", headers=SSE)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")


async def test_a_stopping_service_says_when_to_come_back(client, parts):
    async with client.get("/events", headers=SSE) as answer:
        await answer.content.readline()
        parts.stopping = True
        parts.bus.close()
        rest = await answer.content.read()
    assert b"retry: 1000" in rest


async def test_bad_parameters_are_400(client, document):
    await finished(client, document)
    for query in ("after=x", "after=-1", "limit=0", "limit=x"):
        answer = await client.get(f"/train/a/events?{query}")
        assert (answer.status, (await answer.json())["errors"][0]["path"]) == (400, query.partition("=")[0])


async def test_an_upgrade_is_answered_as_a_plain_get(client, document):
    await finished(client, document)
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    answer = await client.get("/train/a/events", headers=upgrade)
    assert (answer.status, "events" in await answer.json()) == (200, True)
