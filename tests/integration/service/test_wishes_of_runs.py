"""Pauses and cancels that meet each other, the end of the run, or its loss: real guards."""

import asyncio

import attrs
import pytest

from tests.integration.service.own_runs import DEAF


@pytest.fixture
def settings(request, settings):
    """A test may give its runs longer to stop."""
    return attrs.evolve(settings, grace_seconds=getattr(request, "param", settings.grace_seconds))


def ends(events):
    return [e["type"] for e in events if e["type"] in ("job.succeeded", "job.failed", "job.cancelled")]


async def test_a_pause_that_is_sent_again_is_200_while_the_run_stops_and_when_it_is_paused(run):
    await run.begin(DEAF)
    status, job = await run.call("POST", "/pause")
    assert (status, job["phase"]) == (202, "pausing")
    for _ in range(2):
        assert (await run.call("POST", "/pause"))[0] == 200
    await run.until(lambda job: job["phase"] == "paused")
    assert (await run.call("POST", "/pause"))[0] == 200
    assert [e["data"]["phase"] for e in await run.events("phase")] == ["pausing"]
    assert len(await run.events("paused")) == 1


async def test_a_cancel_wins_over_a_pause_that_is_under_way_and_no_pause_over_a_cancel(run):
    await run.begin(DEAF)
    await run.call("POST", "/pause")
    status, job = await run.call("POST", "/cancel")
    assert (status, job["phase"]) == (202, "stopping")
    status, problem = await run.call("POST", "/pause")
    assert (status, "is being cancelled" in problem["detail"]) == (409, True)
    job = await run.until(lambda job: job["ended_at"])
    assert (job["status"], job["reason"]) == ("cancelled", "cancelled")
    events = await run.events()
    assert ends(events) == ["job.cancelled"]
    assert not [e for e in events if e["type"] == "job.paused"]
    assert (await run.call("POST", "/pause"))[0] == 409


@pytest.mark.parametrize("settings", [60.0], indirect=True)
async def test_what_a_run_does_until_it_stops_is_told_and_the_wish_stays_in_sight(run, tmp_path):
    stopped = tmp_path / "stopped"
    await run.begin(f"trap '' TERM; until [ -e {stopped} ]; do sleep 0.1; done; exit 1")
    shown = {}
    for n, (wish, phase) in enumerate([("pause", "evaluating"), ("cancel", "uploading")]):
        await run.call("POST", f"/{wish}")
        said = [{"type": "phase", "data": {"phase": phase}}, {"type": "progress", "data": {"step": n}}]
        items = [{"n": 2 * n + at, **item} for at, item in enumerate(said, 1)]
        assert (await run.post(items))[1]["accepted_through"] == 2 * n + 2
        job = await run.until(lambda job, n=n: (job["progress"] or {}).get("step") == n)
        shown[wish] = job["phase"]
    stopped.touch()
    assert shown == {"pause": "pausing", "cancel": "stopping"}
    told = ["pausing", "evaluating", "pausing", "stopping", "uploading", "stopping"]
    assert [e["data"]["phase"] for e in await run.events("phase")] == told


async def test_a_run_that_is_lost_while_it_pauses_is_paused_where_it_has_a_checkpoint(run):
    await run.begin(DEAF, max_retries=3)
    saved = await run.save(7)
    await run.call("POST", "/pause")
    run.kill_all()
    job = await run.until(lambda job: job["phase"] == "paused")
    assert (job["status"], job["reason"], job["attempt"]) == ("queued", None, 1)
    (paused,) = await run.events("paused")
    assert paused["data"]["step"] == 7
    _, listed = await run.call("GET", "/checkpoints")
    assert [(c["step"], c["uri"]) for c in listed["checkpoints"]] == [(7, str(saved))]
    assert (await run.call("POST", "/resume"))[0] == 202
    await run.claimed(2)
    assert (await run.events("queued"))[-1]["data"]["resumed_from"] == 7


async def test_a_run_that_is_lost_while_it_pauses_with_nothing_saved_is_paused_at_no_step(run):
    await run.begin(DEAF, max_retries=3)
    await run.call("POST", "/pause")
    run.kill_all()
    await run.until(lambda job: job["phase"] == "paused")
    events = await run.events()
    assert (ends(events), events[-1]["data"]) == ([], {"step": None})


async def test_a_paused_job_that_is_cancelled_tells_the_step_that_it_stood_at(run):
    await run.begin()
    await run.post([{"n": 1, "type": "progress", "data": {"step": 9, "total_steps": 20}}])
    await run.until(lambda job: (job["progress"] or {}).get("step") == 9)
    await run.call("POST", "/pause")
    await run.until(lambda job: job["phase"] == "paused")
    status, job = await run.call("POST", "/cancel")
    assert (status, job["status"]) == (202, "cancelled")
    (cancelled,) = await run.events("cancelled")
    assert (cancelled["data"]["step"], cancelled["message"]) == (9, "cancelled at step 9")


async def test_a_cancel_and_a_pause_at_once_make_one_end(run):
    await run.begin()
    wishes = ("/pause", "/cancel", "/pause", "/cancel")
    answers = await asyncio.gather(*(run.call("POST", wish) for wish in wishes))
    assert {status for status, _ in answers} <= {200, 202, 409}
    await run.until(lambda job: job["ended_at"])
    assert ends(await run.events()) == ["job.cancelled"]


async def test_a_pause_that_is_overtaken_by_a_cancel_is_refused(run, parts, monkeypatch):
    await run.begin(DEAF)
    real, met = parts.store.append, []

    async def append(uid, bodies, **more):
        if not met and bodies and bodies[0].data().get("phase") == "pausing":
            met.append(await run.call("POST", "/cancel"))
        return await real(uid, bodies, **more)

    monkeypatch.setattr(parts.store, "append", append)
    assert (await run.call("POST", "/pause"))[0] == 409
    assert met[0][0] == 202
    assert (await run.until(lambda job: job["ended_at"]))["status"] == "cancelled"


async def test_of_resumes_at_once_one_is_taken(run):
    await run.begin()
    await run.call("POST", "/pause")
    await run.until(lambda job: job["phase"] == "paused")
    answers = await asyncio.gather(*(run.call("POST", "/resume") for _ in range(4)))
    assert sorted(status for status, _ in answers) == [202, 409, 409, 409]
    await run.claimed(2)
    assert (await run.job())["attempt"] == 2
