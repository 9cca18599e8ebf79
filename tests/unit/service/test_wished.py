"""What was wished of a job is what it shows until that is granted, whatever its run says meanwhile."""

import json
import os

import pytest

from backends.registry import Registry
from common.backend import BackendContext, Handle, JobSpec, RunRestarted
from common.clock import Clock
from common.devices import DevicePool
from common.errors import StaleEvent
from common.event import JobCancelled, JobPaused, JobPhase, JobProgress, JobRunning, JobSubmitted
from common.job import Phase, Reason, Status, Wish
from common.secret import SecretBox
from common.settings import Settings
from service.folders import Folders
from service.live import LiveJob
from service.requeues import begun_again
from service.specs import write_spec
from service.store.base import Changes, NewJob
from service.store.sqlite import open_store
from service.wished import append_said, leading_to, tell_again

EVALUATES, STEP = JobPhase(phase=Phase.EVALUATING), JobProgress(step=1)


@pytest.fixture
async def store(tmp_path):
    queue = {"writer_queue": 1000, "event_bytes": 65536, "on_fatal": lambda: None}
    opened = await open_store(tmp_path / "t.db", SecretBox(os.urandom(32)), Clock(), lambda _: None, **queue)
    spec = write_spec(JobSpec(engine="text"))
    texts = {"document": "{}", "spec": spec, "warnings": "[]", "lane": "", "labels": {}, "hooks": {}}
    await opened.add_job(NewJob(uid="u", job_id="a", backend="local", priority=0, secrets={}, **texts))
    yield opened
    await opened.close()


async def submitted(store, wanted=Wish.RUN):
    handle = Handle(uid="u", job_id="a", attempt=1)
    job = await store.append("u", [JobSubmitted(backend="local")], changes=Changes(handle=handle, wanted=wanted))
    return LiveJob.of(job, handle, JobSpec(engine="text", folder=False), 0.0)


async def turns(store):
    """The phase of the job after each event that turned it to another one."""
    found = [json.loads(event.text) for event in await store.events("u", 0, 100)]
    kinds = ("job.running", "job.phase", "job.paused")
    assert all(event["phase"] == event["data"]["phase"] for event in found if event["type"] == "job.phase")
    return [event["phase"] for event in found if event["type"] in kinds]


@pytest.mark.parametrize(("wanted", "shown"), [(Wish.PAUSE, "pausing"), (Wish.CANCEL, "stopping")])
async def test_a_run_that_begins_or_turns_to_other_work_after_a_wish_does_not_hide_it(store, wanted, shown):
    await submitted(store, wanted)
    for said in ([JobRunning(), STEP], [EVALUATES], [STEP]):
        job = await append_said(store, "u", said, 1, None)
        assert (job.status, job.phase) == (Status.RUNNING, shown)
    assert await turns(store) == ["preparing", shown, "evaluating", shown]


async def test_a_wish_that_comes_while_it_is_stored_is_not_hidden_either(store, monkeypatch):
    await submitted(store)
    await append_said(store, "u", [JobRunning()], 1, None)
    real, wishes = store.append, [Wish.PAUSE, Wish.CANCEL]

    async def append(uid, bodies, **more):
        if wishes:
            wanted = wishes.pop(0)
            await real(uid, leading_to(wanted), changes=Changes(wanted=wanted))
        return await real(uid, bodies, **more)

    monkeypatch.setattr(store, "append", append)
    assert (await append_said(store, "u", [EVALUATES], 1, None)).phase is Phase.STOPPING
    assert await turns(store) == ["preparing", "pausing", "stopping", "evaluating", "stopping"]


async def test_without_a_wish_the_run_says_what_it_does(store):
    await submitted(store)
    assert (await append_said(store, "u", [JobRunning(), EVALUATES], 1, None)).phase is Phase.EVALUATING
    await tell_again(store, "u")
    assert await turns(store) == ["preparing", "evaluating"]


async def test_a_wish_that_is_granted_is_shown_no_more(store, monkeypatch):
    await submitted(store, Wish.PAUSE)
    real, granted = store.append, [JobPaused(step=None)]

    async def append(uid, bodies, **more):
        if granted:
            await real(uid, [granted.pop()])
        return await real(uid, bodies, **more)

    with monkeypatch.context() as patched:
        patched.setattr(store, "append", append)
        await tell_again(store, "u")
    assert await turns(store) == ["paused"]
    await store.append("u", [JobCancelled(reason=Reason.CANCELLED)], changes=Changes(wanted=Wish.CANCEL))
    await tell_again(store, "u")
    with pytest.raises(StaleEvent):
        await append_said(store, "u", [EVALUATES], 1, None)


async def test_a_run_that_its_backend_begins_again_does_not_hide_it(store, tmp_path):
    live = await submitted(store, Wish.PAUSE)
    context = BackendContext(settings=Settings(data_dir=tmp_path), clock=Clock(), devices=DevicePool())
    restarted = RunRestarted(reason=Reason.PREEMPTED, handle=Handle(uid="u", job_id="a", attempt=2))
    await begun_again(store, Folders(store, Registry(context)), live, restarted)
    assert (live.job.attempt, live.job.phase) == (2, Phase.PAUSING)
