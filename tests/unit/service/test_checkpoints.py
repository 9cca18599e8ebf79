"""Which of the checkpoints that a job told are still there, and the one that it goes on from."""

import json

import pytest

from common.event import JobCheckpoint, JobRunning, JobSubmitted
from service.checkpoints import kept, newest_step
from service.store.base import NewJob
from tests.stores import store_in

SPEC = {"engine": "text", "argv": [], "warnings": []}


@pytest.fixture
async def store(tmp_path):
    async with store_in(tmp_path) as made:
        texts = {"document": "{}", "spec": json.dumps(SPEC), "warnings": "[]", "lane": "", "labels": {}, "hooks": {}}
        await made.add_job(NewJob(uid="u", job_id="a", backend="local", priority=0, secrets={}, **texts))
        await made.append("u", [JobSubmitted(backend="local"), JobRunning()])
        yield made


@pytest.fixture
def saved(store, tmp_path):
    async def make(step):
        folder = tmp_path / f"step-{step}"
        folder.mkdir()
        (folder / "model").write_bytes(b"12345")
        (folder / "checkpoint.json").write_text(json.dumps({"files": {"model": [5, "sum"]}}))
        await store.append("u", [JobCheckpoint(step=step, uri=str(folder))])
        return folder

    return make


async def test_the_newest_complete_one_is_gone_on_from(store, saved):
    assert await newest_step(store, "u") is None
    await saved(4)
    await saved(8)
    assert [entry["step"] for entry in await kept(store, "u")] == [4, 8]
    assert await newest_step(store, "u") == 8


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model").write_bytes(b"1234"),
        lambda folder: (folder / "model").unlink(),
        lambda folder: (folder / "checkpoint.json").unlink(),
        lambda folder: (folder / "checkpoint.json").write_text('{"files"'),
        lambda folder: (folder / "checkpoint.json").write_text("[]"),
    ],
    ids=["cut", "file gone", "record gone", "record cut", "record strange"],
)
async def test_a_damaged_one_is_passed_over(store, saved, damage):
    await saved(4)
    damage(await saved(8))
    assert await newest_step(store, "u") == 4


async def test_one_that_was_written_again_is_listed_once_and_one_in_a_bucket_as_it_was_told(store, saved):
    folder = await saved(4)
    uri = "s3://bucket/results/a/checkpoints/step-2"
    await store.append("u", [JobCheckpoint(step=2, uri=uri), JobCheckpoint(step=4, uri=str(folder), kind="best")])
    assert [(entry["step"], entry["kind"]) for entry in await kept(store, "u")] == [(4, "best"), (2, "step")]
