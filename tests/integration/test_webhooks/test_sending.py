"""What is sent, and to whom."""

import asyncio
import json

from aiohttp import web
from attrs import evolve

from common.event import JobProgress, JobRunning, JobSubmitted


async def test_a_delivery_is_the_event_with_one_line_for_people(yard, receiver):
    uid = await yard.add({"webhook": f"{receiver.base}/hook"}, secrets={"callbacks.auth_header": "Token abc-123"})
    async with yard.working():
        await yard.settled()
    (got,) = receiver.got
    served = json.loads(yard.published[0].text)
    assert {k: v for k, v in got.body.items() if k != "log"} == served
    assert got.body["type"] == "job.queued" and got.body["job_id"] == f"job-{uid}"
    assert "\n" not in got.body["log"] and f"job-{uid}" in got.body["log"]
    assert got.headers["Authorization"] == "Token abc-123"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["webhook-id"] == f"msg_{uid}_1_webhook"
    assert got.headers["webhook-timestamp"].isdecimal()
    assert got.headers["User-Agent"].startswith("trainyard")


async def test_the_header_goes_to_the_stream_only_where_its_host_is_the_webhooks(yard, receiver):
    secret = {"callbacks.auth_header": "Bearer s3cret"}
    other = receiver.base.replace("127.0.0.1", "localhost")
    await yard.add({"webhook": f"{receiver.base}/a", "stream": f"{receiver.base}/b"}, secrets=secret)
    await yard.add({"webhook": f"{receiver.base}/c", "stream": f"{other}/d"}, secrets=secret)
    async with yard.working():
        await yard.settled()
    sent = {g.path: g.headers.get("Authorization") for g in receiver.got}
    assert sent == {"/a": "Bearer s3cret", "/b": "Bearer s3cret", "/c": "Bearer s3cret", "/d": None}


async def test_a_url_with_credentials_and_a_signed_query_is_used_whole(yard, receiver):
    whole = receiver.base.replace("://", "://me:pw@") + "/hook?sig=a%2Fb%3D"
    masked = receiver.base.replace("://", "://••••@") + "/hook?••••"
    await yard.add({"webhook": masked}, secrets={"callbacks.webhook_url": whole})
    seen = []

    async def answer(request, before):
        seen.append(request.raw_path)
        return web.Response()

    receiver.answer = answer
    async with yard.working():
        await yard.settled()
    assert seen == ["/hook?sig=a%2Fb%3D"]
    assert receiver.got[0].headers["Authorization"] == "Basic bWU6cHc="


async def test_a_url_whose_secret_part_is_gone_is_dead_with_the_reason(yard, receiver):
    await yard.add({"webhook": f"{receiver.base}/hook?••••"})
    async with yard.working():
        await yard.settled("dead")
    ((error,),) = await yard.rows("SELECT error FROM delivery_attempts")
    assert "callbacks.webhook_url" in error and receiver.got == []


async def test_events_of_a_job_arrive_in_order_and_waiting_progress_is_replaced(yard, receiver):
    types = ("job.queued", "job.submitted", "job.running", "job.progress")
    uid = await yard.add({"webhook": f"{receiver.base}/hook"}, types)
    bodies = [JobSubmitted(backend="simulated"), JobRunning(), *(JobProgress(step=n) for n in range(1, 51))]
    await yard.store.append(uid, bodies)
    async with yard.working() as worker:
        await yard.settled()
        await yard.store.append(uid, [JobProgress(step=51)])
        worker.notify()
        await yard.settled()
    told = [(g.body["type"], g.body["data"].get("step")) for g in receiver.got]
    assert told == [
        ("job.queued", None),
        ("job.submitted", None),
        ("job.running", None),
        ("job.progress", 50),
        ("job.progress", 51),
    ]


async def test_what_was_not_sent_before_a_restart_is_sent_after_it(yard, receiver):
    uid = await yard.add({"webhook": f"{receiver.base}/hook"}, ("job.queued", "job.running"))
    await yard.store.append(uid, [JobRunning()])
    yard.settings = evolve(yard.settings, webhook_timeout_seconds=30.0)
    arrived = asyncio.Event()

    async def hang_once(request, before):
        arrived.set()
        if not before:
            await asyncio.sleep(60)
        return web.Response()

    receiver.answer = hang_once
    async with yard.working():
        await asyncio.wait_for(arrived.wait(), 30)
    assert await yard.states() == ["pending", "pending"]
    assert await yard.rows("SELECT 1 FROM delivery_attempts") == []
    async with yard.working():
        await yard.settled()
    assert [g.body["type"] for g in receiver.got] == ["job.queued", "job.queued", "job.running"]
    assert receiver.got[0].headers["webhook-id"] == receiver.got[1].headers["webhook-id"]
