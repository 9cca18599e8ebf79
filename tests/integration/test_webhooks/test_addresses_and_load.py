"""Addresses that are never called, hosts that don't answer, and many deliveries at once."""

import asyncio
import socket

import pytest
from aiohttp import web
from attrs import evolve


def lookup_of(names):
    def lookup(host, port, *_):
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names[host], port))]

    return lookup


@pytest.mark.parametrize(
    "url", ["http://169.254.169.254/latest", "http://[fd00:ec2::254]/", "http://2852039166/", "http://cloud.example/x"]
)
async def test_a_metadata_address_is_never_called_also_behind_a_name(yard, url):
    yard.lookup = lookup_of({"cloud.example": "100.100.100.200"})
    await yard.add({"webhook": url})
    async with yard.working():
        await yard.settled("dead")
    ((error,),) = await yard.rows("SELECT error FROM delivery_attempts")
    assert "metadata address" in error


async def test_a_name_is_looked_up_and_a_missing_one_is_tried_again(yard, receiver):
    names = {}
    yard.lookup = lookup_of(names)
    port = receiver.base.rpartition(":")[2]
    await yard.add({"webhook": f"http://hook.example:{port}/x"})
    async with yard.working():
        async with asyncio.timeout(30):
            while not await yard.rows("SELECT 1 FROM delivery_attempts"):
                await asyncio.sleep(0.02)
        names["hook.example"] = "127.0.0.1"
        await yard.settled()
    assert receiver.got[0].headers["Host"] == f"hook.example:{port}"


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "nonsense", "http://h:99999/x", "http://exa mple/"])
async def test_a_bad_url_is_dead_and_the_worker_goes_on(yard, receiver, url):
    await yard.add({"webhook": url})
    await yard.add({"webhook": f"{receiver.base}/hook"})
    async with yard.working():
        async with asyncio.timeout(30):
            while await yard.states() != ["dead", "delivered"]:
                await asyncio.sleep(0.02)
    assert len(receiver.got) == 1


async def test_a_host_that_never_answers_holds_up_no_other(yard, receiver):
    yard.settings = evolve(yard.settings, webhook_timeout_seconds=60.0)

    async def answer(request, before):
        if request.path.startswith("/dead"):
            await asyncio.sleep(60)
        return web.Response()

    receiver.answer = answer
    dead = receiver.base.replace("127.0.0.1", "localhost")
    await asyncio.gather(*(yard.add({"webhook": f"{dead}/dead{n}"}) for n in range(700)))
    await asyncio.gather(*(yard.add({"webhook": f"{receiver.base}/live{n}"}) for n in range(50)))
    async with yard.working():
        async with asyncio.timeout(30):
            while (await yard.states()).count("delivered") < 50:
                await asyncio.sleep(0.02)
    assert sum(g.path.startswith("/dead") for g in receiver.got) <= 16


@pytest.mark.slow
async def test_a_burst_of_ten_thousand_makes_few_tasks_and_all_arrive(yard, receiver):
    await asyncio.gather(*(yard.add({"webhook": f"{receiver.base}/{n % 7}"}) for n in range(10_000)))
    most = 0
    async with yard.working():
        async with asyncio.timeout(240):
            while await yard.rows("SELECT 1 FROM deliveries WHERE state = 'pending' LIMIT 1"):
                most = max(most, len(asyncio.all_tasks()))
                await asyncio.sleep(0.05)
    assert len({g.headers["webhook-id"] for g in receiver.got}) == len(receiver.got) == 10_000
    assert most < 200


async def test_an_idle_worker_does_not_read_the_store(yard, receiver):
    await yard.add({"webhook": f"{receiver.base}/hook"})
    async with yard.working():
        await yard.settled()
        reads = 0
        original = yard.store.due_deliveries

        async def counted(*arguments):
            nonlocal reads
            reads += 1
            return await original(*arguments)

        yard.store.due_deliveries = counted
        async with asyncio.timeout(20):  # what the delivery itself made it look for may still be read
            before = -1
            while reads != before:
                before = reads
                await asyncio.sleep(0.6)
