"""A checkpoint that stands is told before what follows from the end of its run, once, whoever could not tell it."""

import json
import os

import pytest
from attrs import evolve

from backends.registry import Registry
from common.backend import BackendContext, Handle, JobSpec, RunEnded, RunRestarted
from common.clock import Clock, stamp
from common.devices import DevicePool
from common.errors import Unavailable
from common.event import JobCheckpoint, JobProgress, JobQueued, JobRunning, JobSubmitted
from common.job import Reason, Wish
from common.settings import Settings
from service.answers import taken_up
from service.ends import Ends
from service.folders import Folders
from service.live import LiveJob
from service.masker import Masker
from service.metrics import Metrics
from service.requeues import begun_again
from service.specs import read_spec, write_spec
from service.store.base import Changes, NewJob
from tests.stores import store_in

LOST = RunEnded(reason=Reason.LOST)
WRITTEN = 1_800_000_000.25
RATE = {"tuning_parameters.learning_rate": 0.5}


class Subject:
    """One running job of the store, and the checkpoints in its output folder."""

    def __init__(self, store, folder):
        context = BackendContext(settings=Settings(data_dir=folder), clock=Clock(), devices=DevicePool())
        self.store, self.folder, self.output = store, folder, str(folder / "out" / "a")
        self.folders = Folders(store, Registry(context))
        self.ends = Ends(store, self.folders, context.settings, Clock(), Metrics())
        self.live, self.masker = None, Masker(())

    async def begin(self, engine="text", retries=0, **changes):
        spec = JobSpec(engine=engine, output=self.output, request={"extra_parameters": {"max_retries": retries}})
        texts = {"document": "{}", "spec": write_spec(spec), "warnings": "[]", "lane": "", "labels": {}, "hooks": {}}
        await self.store.add_job(NewJob(uid="u", job_id="a", backend="local", priority=0, secrets={}, **texts))
        await self.store.append(
            "u", [], changes=Changes(changes=json.dumps([{"id": "c", "step": None, "values": RATE}]))
        )
        await self.runs(**changes)

    async def runs(self, attempt=1, **changes):
        handle = Handle(uid="u", job_id="a", attempt=attempt)
        bodies = [JobSubmitted(backend="local"), JobRunning()]
        job = await self.store.append("u", bodies, changes=Changes(handle=handle, **changes))
        record = await self.store.job_by_uid("u")
        self.live = evolve(LiveJob.of(job, handle, read_spec(record.spec), 0.0), masker=self.masker)

    def lay(self, step, attempt="1.0", uid="u", folder=None):
        """As a run leaves it that is killed right after the rename."""
        made = (folder or self.folder / "out" / "a") / "checkpoints" / f"step-{step}"
        made.mkdir(parents=True)
        (made / "model").write_bytes(b"12345")
        record = {"format": 1, "uid": uid, "attempt": attempt, "step": step, "files": {"model": [5, "sum"]}}
        (made / "checkpoint.json").write_text(json.dumps(record))
        os.utime(made / "checkpoint.json", (WRITTEN, WRITTEN))
        return made

    async def events(self):
        found = [json.loads(event.text) for event in await self.store.events("u", 0, 100)]
        assert [event["sequence"] for event in found] == list(range(1, len(found) + 1))
        return [(event["type"].removeprefix("job."), event["attempt"], event["data"]) for event in found]

    async def told(self):
        return [(attempt, data["step"]) for kind, attempt, data in await self.events() if kind == "checkpoint"]


@pytest.fixture
async def subject(tmp_path):
    async with store_in(tmp_path) as store:
        yield Subject(store, tmp_path)


@pytest.mark.parametrize(
    ("ended", "wanted", "retries", "follows", "says"),
    [
        (LOST, Wish.RUN, 1, "retrying", {"resumed_from": 8}),
        (LOST, Wish.RUN, 0, "failed", {"reason": "lost"}),
        (RunEnded(code=69), Wish.RUN, 1, "failed", {"reason": "credentials"}),  # the bucket refused it after the rename
        (RunEnded(code=74), Wish.RUN, 1, "failed", {"reason": "disk_full"}),  # no room for the event itself
        (LOST, Wish.PAUSE, 0, "paused", {"step": 8}),
        (RunEnded(code=76, step=5), Wish.PAUSE, 0, "paused", {"step": 8}),
        (RunEnded(signal=9), Wish.CANCEL, 0, "cancelled", {"step": 8}),
        (RunEnded(code=0, step=8), Wish.RUN, 0, "succeeded", {"step": 8}),
    ],
)
async def test_it_is_told_before_every_kind_of_end_and_the_end_speaks_of_it(
    subject, ended, wanted, retries, follows, says
):
    await subject.begin(retries=retries, wanted=wanted)
    await subject.store.append("u", [JobCheckpoint(step=4, uri=str(subject.lay(4))), JobProgress(step=5)])
    saved = subject.lay(8)
    await subject.ends.tell(subject.live, ended)
    *before, last = await subject.events()
    checkpoint = {"step": 8, "uri": str(saved), "bytes": 5, "kind": "step", "at": stamp(WRITTEN)}
    between = {"retrying": ["changed"], "succeeded": ["changed"]}.get(follows, [])
    assert [kind for kind, _, _ in before[-2 - len(between) :]] == ["progress", "checkpoint", *between]
    assert before[-1 - len(between)] == ("checkpoint", 1, checkpoint)
    assert last[0] == follows
    assert {key: last[2][key] for key in says} == says


async def test_what_no_run_answered_holds_from_it(subject):
    await subject.begin(retries=1)
    subject.lay(8)
    await subject.ends.tell(subject.live, LOST)
    assert [data["step"] for kind, _, data in await subject.events() if kind == "changed"] == [8]
    record = await subject.store.job_by_uid("u")
    assert [entry["step"] for entry in taken_up(record, 99)[1]] == [8]


async def test_what_came_to_stand_after_the_look_is_told_at_the_next_end_and_nothing_is_told_twice(subject):
    await subject.begin(retries=9)
    for step in (16, 8):
        subject.lay(step)
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == [(1, 8), (1, 16)]
    await subject.runs(attempt=2)
    subject.lay(24)  # a process of the first attempt had looked at the fence already
    subject.lay(20, attempt="2.0")
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == [(1, 8), (1, 16), (2, 20), (2, 24)]
    assert (await subject.events())[-1][2]["resumed_from"] == 24


async def test_an_end_that_could_not_be_stored_and_is_told_again_tells_it_once(subject, monkeypatch):
    await subject.begin(retries=1)
    subject.lay(8)

    async def full(*_, **__):
        raise Unavailable("the writer's queue is full")

    with monkeypatch.context() as patched:
        patched.setattr(subject.store, "append", full)
        with pytest.raises(Unavailable):
            await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == []
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == [(1, 8)]


async def test_a_wish_that_comes_while_it_is_stored_changes_the_end_and_not_how_often_it_is_told(subject, monkeypatch):
    await subject.begin(retries=1)
    subject.lay(8)
    real, wishes = subject.store.append, [Changes(wanted=Wish.PAUSE)]

    async def append(uid, bodies, **more):
        while wishes:
            await real(uid, [], changes=wishes.pop())
        return await real(uid, bodies, **more)

    monkeypatch.setattr(subject.store, "append", append)
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == [(1, 8)]
    assert (await subject.events())[-1] == ("paused", 1, {"step": 8})


@pytest.mark.parametrize(
    "strange",
    [
        lambda subject: subject.lay(8, uid="another"),
        lambda subject: subject.lay(8, attempt="1.1"),
        lambda subject: subject.lay(8, attempt="2.0"),
        lambda subject: subject.lay(8, attempt="none"),
        lambda subject: (subject.lay(8) / "model").write_bytes(b"1234"),
        lambda subject: (subject.lay(8) / "model").unlink(),
        lambda subject: (subject.lay(8) / "checkpoint.json").unlink(),
        lambda subject: (subject.lay(8) / "checkpoint.json").write_text('{"files"'),
        lambda subject: (subject.lay(8) / "checkpoint.json").write_text('{"files": {}}'),
        lambda subject: subject.lay("8.tmp-1.0"),
        lambda subject: subject.lay("8.old-1.0"),
        lambda subject: (subject.folder / "out" / "a").mkdir(parents=True),
        lambda subject: [(subject.folder / "out").mkdir(), (subject.folder / "out" / "a").write_text("a file")],
    ],
    ids=[
        *("another job's", "of a restart since", "of a newer attempt", "of nobody", "cut", "a file gone"),
        *("no record", "record cut", "record strange", "half written", "on its way out", "none", "no folder"),
    ],
)
async def test_what_is_not_whole_or_of_another_run_is_not_told(subject, strange):
    await subject.begin(retries=1)
    strange(subject)
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == []
    assert (await subject.events())[-1][2]["resumed_from"] is None


async def test_a_program_of_the_callers_own_keeps_its_folders_its_way(subject):
    await subject.begin(engine="command", retries=1)
    subject.lay(8)
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == []


async def test_what_never_came_into_its_bucket_is_told_by_its_path(subject):
    subject.output = "s3://bucket/results/a"
    await subject.begin(retries=1)
    own = subject.folders.with_backend("local", "a").path / "output"
    uri = f"{subject.output}/checkpoints/step-4"
    await subject.store.append("u", [JobCheckpoint(step=4, uri=uri)])
    subject.lay(4, folder=own)
    subject.lay(8, folder=own)
    await subject.ends.tell(subject.live, LOST)
    assert [data["uri"] for kind, _, data in await subject.events() if kind == "checkpoint"] == [
        uri,
        str(own / "checkpoints" / "step-8"),
    ]
    assert (await subject.events())[-1][2]["resumed_from"] == 8


async def test_an_address_that_a_secret_is_masked_in_is_known_again(subject):
    subject.masker = Masker([subject.folder.name])
    await subject.begin(retries=9)
    subject.lay(8)
    await subject.ends.tell(subject.live, LOST)
    await subject.runs(attempt=2)
    await subject.ends.tell(subject.live, LOST)
    assert await subject.told() == [(1, 8)]
    assert subject.folder.name not in json.dumps(await subject.events())


async def test_it_is_told_before_a_run_that_its_backend_begins_again_and_that_ones_own_are_left_to_it(subject):
    await subject.begin(retries=9)
    subject.lay(8)
    subject.lay(12, attempt="1.1")  # written while nobody looked
    again = evolve(subject.live.handle, attempt=2)
    restarted = RunRestarted(reason=Reason.NODE_FAILURE, handle=again)
    await begun_again(subject.store, subject.folders, subject.live, restarted)
    kinds = [(kind, attempt) for kind, attempt, _ in await subject.events()]
    assert kinds[-3:] == [("checkpoint", 1), ("retrying", 2), ("submitted", 2)]
    assert [data["resumed_from"] for kind, _, data in await subject.events() if kind == "retrying"] == [8]
    live = evolve(subject.live, job=await subject.store.append("u", [JobRunning()]))
    await subject.store.append("u", [JobCheckpoint(step=12, uri=f"{subject.output}/checkpoints/step-12")])
    await subject.ends.tell(live, RunEnded(code=65))
    assert await subject.told() == [(1, 8), (2, 12)]


async def test_a_run_that_is_ended_before_it_began_tells_none(subject):
    await subject.begin()
    await subject.ends.tell(subject.live, RunEnded(code=65))
    await subject.store.append("u", [JobQueued()])
    job = await subject.store.append("u", [JobSubmitted(backend="local")])
    subject.lay(8)
    live = evolve(subject.live, job=job, handle=evolve(subject.live.handle, attempt=2))
    await subject.ends.tell(live, RunEnded(code=65))
    assert await subject.told() == []
    assert (await subject.events())[-1][0] == "failed"
