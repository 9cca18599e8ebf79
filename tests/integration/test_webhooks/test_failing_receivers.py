"""Receivers that fail on purpose."""

import asyncio
import time
from email.utils import formatdate
from itertools import pairwise

import pytest
from aiohttp import web
from attrs import evolve
from structlog.testing import capture_logs

from common.event import JobRunning
from tests.server import free_port


def statuses(*codes, **headers):
    """Answer with these, then 200."""

    async def answer(request, before):
        return web.Response(status=codes[before] if before < len(codes) else 200, headers=headers)

    return answer


async def tries(yard):
    return await yard.rows("SELECT n, status, error FROM delivery_attempts ORDER BY delivery_id, n")


@pytest.mark.parametrize("code", [408, 500, 503])
async def test_an_answer_that_may_pass_is_tried_again_with_growing_pauses(yard, receiver, code):
    receiver.answer = statuses(code, code, code)
    await yard.add({"webhook": f"{receiver.base}/hook"})
    async with yard.working():
        await yard.settled()
    assert [(n, status) for n, status, _ in await tries(yard)] == [(1, code), (2, code), (3, code), (4, 200)]
    gaps = [after.at - before.at for before, after in pairwise(receiver.got)]
    assert all(gap >= 0.8 * least for gap, least in zip(gaps, (0.05, 0.1, 0.2), strict=True)), gaps
    assert len({g.headers["webhook-id"] for g in receiver.got}) == 1


async def test_retry_after_is_kept_to_in_seconds_and_as_a_date(yard, receiver):
    async def answer(request, before):
        after = "1" if request.path == "/seconds" else formatdate(time.time() + 2, usegmt=True)
        return web.Response(status=200 if before else 429, headers={"Retry-After": after})

    receiver.answer = answer
    await yard.add({"webhook": f"{receiver.base}/seconds"})
    await yard.add({"webhook": f"{receiver.base}/date"})
    async with yard.working():
        await yard.settled()
    for path in ("/seconds", "/date"):
        first, second = receiver.at(path)
        assert second.at - first.at >= 0.9


async def test_410_switches_the_hook_off(yard, receiver):
    receiver.answer = statuses(410)
    uid = await yard.add({"webhook": f"{receiver.base}/hook"}, ("job.queued", "job.running"))
    async with yard.working() as worker:
        await yard.settled("dead")
        await yard.store.append(uid, [JobRunning()])
        worker.notify()
        await asyncio.sleep(0.2)
    assert len(receiver.got) == 1
    assert (await yard.store.job_by_uid(uid)).hooks == {}


@pytest.mark.parametrize("code", [302, 307, 400, 404, 422])
async def test_a_redirect_or_another_4xx_is_final_and_makes_room_for_the_next(yard, receiver, code):
    receiver.answer = statuses(code, Location=f"{receiver.base}/elsewhere")
    uid = await yard.add({"webhook": f"{receiver.base}/hook"}, ("job.queued", "job.running"))
    await yard.store.append(uid, [JobRunning()])
    async with yard.working():
        async with asyncio.timeout(30):
            while await yard.states() != ["dead", "delivered"]:
                await asyncio.sleep(0.02)
    assert [g.path for g in receiver.got] == ["/hook", "/hook"]


async def test_time_outs_and_closed_connections_are_tried_again(yard, receiver):
    yard.settings = evolve(yard.settings, webhook_timeout_seconds=2.0)

    async def answer(request, before):
        if before == 0:
            await asyncio.sleep(10)
        if before == 1:
            request.transport.abort()
        return web.Response()

    receiver.answer = answer
    await yard.add({"webhook": f"{receiver.base}/hook"})
    async with yard.working():
        await yard.settled()
    first, second, third = await tries(yard)
    assert "no answer within 2 s" in first[2]
    assert second[1] is None and second[2]
    assert third[1] == 200


async def test_a_delivery_is_dead_when_its_time_is_over(yard, receiver):
    yard.settings = evolve(yard.settings, webhook_give_up_seconds=0.3)
    receiver.answer = statuses(*[500] * 99)
    await yard.add({"webhook": f"{receiver.base}/hook"})
    async with yard.working():
        await yard.settled("dead")
    assert "given up" in (await tries(yard))[-1][2]


async def test_a_failure_is_logged_with_the_job_and_without_secrets(yard, receiver):
    port = free_port()  # where nobody listens
    secrets = {
        "callbacks.webhook_url": f"http://me:pa55word@127.0.0.1:{port}/hook?sig=s1gnature",
        "callbacks.auth_header": "Bearer t0ken",
    }
    uid = await yard.add({"webhook": f"http://••••@127.0.0.1:{port}/hook?••••"}, secrets=secrets)
    with capture_logs() as lines:
        async with yard.working():
            async with asyncio.timeout(30):
                while len(await tries(yard)) < 2:
                    await asyncio.sleep(0.02)
    line = next(line for line in lines if line["event"] == "webhook failed")
    assert line["job_id"] == f"job-{uid}" and line["target"] == "webhook" and line["next_try"].endswith("Z")
    shown = repr(lines) + repr(await tries(yard))
    assert not any(secret in shown for secret in ("pa55word", "s1gnature", "t0ken"))
