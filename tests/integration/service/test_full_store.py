"""A store that takes some writes and not others, as on a full disk: nothing is lost, leaked or tried all the time."""

import asyncio

import attrs
from aiohttp.test_utils import TestClient, TestServer

from common.errors import StorageFull
from service import stalls
from service.app import make_app
from tests.integration.service.test_pause_and_resume import LONG, until


def refuse(parts, monkeypatch, kind):
    """No event of this type is taken until the list that is returned, of the refused ones, is told to be `over`."""
    real, refused = parts.store.append, []

    async def full(uid, bodies, **more):
        if any(body.type == kind for body in bodies) and "over" not in refused:
            refused.append(kind)
            raise StorageFull("the disk is full")
        return await real(uid, bodies, **more)

    monkeypatch.setattr(parts.store, "append", full)
    return refused


async def test_a_submission_that_can_not_be_stored_is_tried_again_with_pauses(client, parts, document, monkeypatch):
    refused = refuse(parts, monkeypatch, "job.submitted")
    await client.post("/train", json=document())
    async with asyncio.timeout(30):
        while not refused:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.4)
    assert len(refused) == 1
    refused.append("over")
    assert (await until(client, lambda job: job["ended_at"]))["status"] == "succeeded"


async def test_devices_of_a_submission_that_was_never_stored_are_free_again(opened, settings, document, monkeypatch):
    parts = await opened(attrs.evolve(settings, local_devices="0"))
    async with TestClient(TestServer(make_app(parts))) as client:
        refused = refuse(parts, monkeypatch, "job.submitted")
        await client.post("/train", json=document(devices=True, **LONG))
        async with asyncio.timeout(30):
            while not refused:
                await asyncio.sleep(0.02)
        await client.post("/train/job-1/cancel")
        await until(client, lambda job: job["ended_at"])
        assert (await parts.registry.get("simulated").capacity()).free == {"gpu": 1}


async def test_a_stall_that_can_not_be_told_at_once_is_told_before_the_end(client, parts, document, monkeypatch):
    monkeypatch.setattr(stalls, "_LOOK_SECONDS", 0.05)
    refused = refuse(parts, monkeypatch, "job.stalled")
    await client.post("/train", json=document(outcome="hang", stall_minutes=0.005))
    async with asyncio.timeout(30):
        while not refused:
            await asyncio.sleep(0.02)
    refused.append("over")
    job = await until(client, lambda job: job["ended_at"])
    assert (job["status"], job["reason"]) == ("failed", "stalled")
