"""What may happen between two awaits of a pause, a change, a retry and a resume: nothing is lost or done twice."""

import asyncio

import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from backends.simulated.backend import SimulatedBackend
from common.backend import RunEnded
from common.errors import BackendUnavailable
from common.job import Wish
from schemas.values import FieldError
from service.app import make_app
from service.outcome import outcome
from service.revisions import for_run
from tests.integration.service.test_pause_and_resume import LONG, job_of, kinds, started, until

LEARNING_RATE = {"tuning_parameters": {"learning_rate": 1e-5}}


@pytest.fixture
def sent(monkeypatch):
    """The simulated backend takes changes, answers none, and keeps what it was sent: (attempt, values)."""
    found: list[tuple[int, dict]] = []

    async def send(self, handle, command):
        if send.before is not None:
            await send.before(command)
        found.append((handle.attempt, dict(command.values)))

    send.before = None
    monkeypatch.setattr(SimulatedBackend, "capabilities", SimulatedBackend.capabilities | {"change"})
    monkeypatch.setattr(SimulatedBackend, "send", send)
    return found


@pytest.fixture
def specs(monkeypatch):
    """What was handed over, in order."""
    specs = []
    real = SimulatedBackend.submit

    async def submit(self, job, attempt, spec):
        specs.append(spec)
        return await real(self, job, attempt, spec)

    monkeypatch.setattr(SimulatedBackend, "submit", submit)
    return specs


def before_append(monkeypatch, parts, kind, act):
    """Await `act` once, just before an event of a kind is written."""
    real, done = parts.store.append, []

    async def append(uid, bodies, **more):
        if not done and any(body.type == kind for body in bodies):
            done.append(True)
            await act()
        return await real(uid, bodies, **more)

    monkeypatch.setattr(parts.store, "append", append)


async def test_a_change_during_a_submission_reaches_the_run(client, document, sent, monkeypatch):
    under_way, go_on = asyncio.Event(), asyncio.Event()
    real = SimulatedBackend.submit

    async def submit(self, job, attempt, spec):
        handle = await real(self, job, attempt, spec)
        under_way.set()
        await go_on.wait()
        return handle

    monkeypatch.setattr(SimulatedBackend, "submit", submit)
    await client.post("/train", json=document(**LONG))
    await asyncio.wait_for(under_way.wait(), 30)
    assert (await client.patch("/train/job-1", json=LEARNING_RATE)).status == 202
    go_on.set()
    async with asyncio.timeout(30):
        while not sent:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert sent == [(1, {"tuning_parameters.learning_rate": 1e-5})]


@pytest.mark.parametrize("wish", ["cancel", "pause"])
async def test_a_wish_that_meets_the_retry_is_granted(parts, client, document, monkeypatch, wish):
    async def act():
        assert (await client.post(f"/train/job-1/{wish}")).status == 202

    before_append(monkeypatch, parts, "job.retrying", act)
    await client.post("/train", json=document(outcome="lost", max_retries=1))
    async with asyncio.timeout(30):
        await until(client, lambda job: job["ended_at"] or job["phase"] == "paused")


async def test_a_change_that_meets_the_retry_is_kept(parts, client, document, sent, monkeypatch):
    async def act():
        assert (await client.patch("/train/job-1", json=LEARNING_RATE)).status == 202

    before_append(monkeypatch, parts, "job.retrying", act)
    await client.post("/train", json=document(outcome="lost", max_retries=1))
    job = await until(client, lambda job: job["ended_at"])
    assert [entry["values"] for entry in job["metadata"]["job_spec"]["changes"]] == [
        {"tuning_parameters.learning_rate": 1e-5}
    ]
    names, _ = await kinds(client)
    assert names.count("job.changed") == 1


async def test_a_cancel_that_meets_the_pause_is_granted(parts, client, document, monkeypatch):
    await started(client, document)
    real, met = parts.store.append, []

    async def append(uid, bodies, **more):
        if not met and bodies and bodies[0].data().get("phase") == "stopping":
            met.append(True)
            await until(client, lambda job: job["phase"] == "paused")
        return await real(uid, bodies, **more)

    monkeypatch.setattr(parts.store, "append", append)
    await client.post("/train/job-1/pause")
    assert (await client.post("/train/job-1/cancel")).status == 202
    assert (await until(client, lambda job: job["ended_at"]))["status"] == "cancelled"


async def test_the_stall_of_a_run_that_is_over_ends_no_later_one(parts, client, document):
    await started(client, document, duration_seconds=60, steps=600, stall_minutes=4 / 60)
    await client.post("/train/job-1/pause")
    await until(client, lambda job: job["phase"] == "paused")
    await client.post("/train/job-1/resume")
    await until(client, lambda job: job["status"] == "running")
    await asyncio.sleep(6)
    job = await job_of(client)
    assert (job["status"], job["attempt"]) == ("running", 2)


async def test_a_pause_that_waits_for_its_backend_ends_no_later_run(parts, client, document, monkeypatch):
    await started(client, document)
    real, down = SimulatedBackend.cancel, [True]

    async def cancel(self, handle, grace):
        if down[0]:
            down[0] = False
            await real(self, handle, grace)
            raise BackendUnavailable("the answer was lost")
        await real(self, handle, grace)

    monkeypatch.setattr(SimulatedBackend, "cancel", cancel)
    await client.post("/train/job-1/pause")
    await until(client, lambda job: job["phase"] == "paused")
    await client.post("/train/job-1/resume")
    await until(client, lambda job: job["status"] == "running" and job["attempt"] == 2)
    await asyncio.sleep(1)
    assert (await job_of(client))["status"] == "running"


def test_a_pause_that_came_before_the_claim_pauses():
    assert outcome(RunEnded(code=77), Wish.PAUSE, "text").type == "job.paused"


async def test_a_changed_deadline_holds_for_a_retry(client, document, sent, specs):
    await client.post("/train", json=document(outcome="lost", max_retries=1, duration_seconds=2.0))
    await until(client, lambda job: job["status"] == "running")
    body = {"resources": {"max_duration_minutes": 7}}
    assert (await client.patch("/train/job-1", json=body)).status == 202
    await until(client, lambda job: job["ended_at"])
    assert [spec.deadline_minutes for spec in specs] == [480, 7]


async def test_what_no_run_answered_is_not_sent_over_a_newer_value(client, document, sent):
    await started(client, document)
    await client.patch("/train/job-1", json=LEARNING_RATE)
    await client.post("/train/job-1/cancel")
    await until(client, lambda job: job["ended_at"])
    newer = {"tuning_parameters": {"learning_rate": 3e-5}}
    await client.post("/train/job-1/resume", json=newer)
    await until(client, lambda job: job["status"] == "running")
    await asyncio.sleep(0.2)
    assert [values for attempt, values in sent if attempt == 2] == []


async def test_a_paused_job_without_a_checkpoint_takes_a_change_from_its_start(client, document):
    await started(client, document)
    await until(client, lambda job: job["progress"]["step"] >= 3)
    await client.post("/train/job-1/pause")
    await until(client, lambda job: job["phase"] == "paused")
    assert (await client.patch("/train/job-1", json=LEARNING_RATE)).status == 202
    (entry,) = (await job_of(client))["metadata"]["job_spec"]["changes"]
    assert entry["step"] == 0


@pytest.mark.parametrize(("name", "value"), [("priority", 0), ("labels", {})])
async def test_null_takes_priority_and_labels_away(client, document, name, value):
    await client.post("/train", json=document(**LONG) | {"labels": {"a": "b"}, "priority": 4})
    answer = await client.patch("/train/job-1", json={name: None})
    assert (answer.status, (await answer.json()).get(name)) == (202, value)
    assert (await job_of(client))[name] == value


async def test_a_change_does_not_wait_for_a_backend_that_is_away(client, document, sent):
    await started(client, document)
    away = [True]

    async def before(command):
        if away[0]:
            raise BackendUnavailable("away")

    SimulatedBackend.send.before = before
    async with asyncio.timeout(20):
        assert (await client.patch("/train/job-1", json=LEARNING_RATE)).status == 202
        second = {"tuning_parameters": {"learning_rate": 2e-5}}
        assert (await client.patch("/train/job-1", json=second)).status == 202
    away[0] = False
    async with asyncio.timeout(30):
        while len(sent) < 2:
            await asyncio.sleep(0.05)
    assert [values["tuning_parameters.learning_rate"] for _, values in sent] == [1e-5, 2e-5]


async def test_a_change_is_kept_where_its_backend_raises_anything(client, document, sent):
    await started(client, document)

    async def before(command):
        raise OSError("no space")

    SimulatedBackend.send.before = before
    assert (await client.patch("/train/job-1", json=LEARNING_RATE)).status == 202


async def test_two_changes_of_a_queued_job_at_once_are_both_kept(opened, settings, document):
    parts = await opened(attrs.evolve(settings, local_devices="0"))
    async with TestClient(TestServer(make_app(parts))) as client:
        await started(client, document, devices=True)
        await client.post("/train", json=document("held", devices=True))
        answers = await asyncio.gather(
            client.patch("/train/held", json={"tuning_parameters": {"max_steps": 7}}),
            client.patch("/train/held", json={"tuning_parameters": {"save_steps": 3}}),
        )
        assert [answer.status for answer in answers] == [202, 202]
        job = await job_of(client, "held")
        assert len(job["metadata"]["job_spec"]["changes"]) == 2


async def test_a_secret_that_a_resume_replaced_stays_masked(parts, client, document):
    posted = document(outcome="failed")
    posted["base_model"]["huggingface_token"] = "hf_the_old_one"
    await client.post("/train", json=posted)
    job = await until(client, lambda job: job["ended_at"])
    await client.post("/train/job-1/resume", json={"secrets": {"base_model.huggingface_token": "hf_the_new_one"}})
    assert {"hf_the_old_one", "hf_the_new_one"} <= set((await parts.store.secrets(job["uid"])).values())


async def test_a_run_that_reports_all_the_time_can_be_changed(client, document):
    await client.post("/train", json=document("busy", duration_seconds=20, steps=200_000))
    async with asyncio.timeout(30):
        while (await job_of(client, "busy"))["last_sequence"] < 500:
            await asyncio.sleep(0.02)
    assert (await client.patch("/train/busy", json={"priority": 3})).status == 202
    await client.post("/train/busy/cancel")


async def test_the_answer_of_a_resume_shows_the_job_as_it_is(client, document):
    await client.post("/train", json=document(outcome="failed"))
    await until(client, lambda job: job["ended_at"])
    answer = await (await client.post("/train/job-1/resume", json={"tuning_parameters": {"num_epochs": 5}})).json()
    assert len(answer["metadata"]["job_spec"]["changes"]) == 1
    assert "failed" not in (answer["detail"] or "")


async def test_a_resume_without_the_capability_is_a_409(client, document, monkeypatch):
    monkeypatch.setattr(SimulatedBackend, "capabilities", frozenset({"logs"}))
    await client.post("/train", json=document(outcome="failed"))
    await until(client, lambda job: job["ended_at"])
    answer = await client.post("/train/job-1/resume")
    assert (answer.status, (await answer.json())["error"]["code"]) == (409, "not_supported")


async def test_a_file_that_is_gone_is_no_fault_of_a_change_of_labels(client, document, monkeypatch):
    await started(client, document)
    gone = [FieldError("datasets[0].source", "is not there any more")]
    monkeypatch.setattr(SimulatedBackend, "validate_request", lambda self, request: gone)
    assert (await client.patch("/train/job-1", json={"labels": {"a": "1"}})).status == 202
    answer = await client.patch("/train/job-1", json={"priority": 1000})
    assert [error["path"] for error in (await answer.json())["errors"]] == ["priority"]


async def test_the_run_of_a_waiting_job_is_built_from_its_change(client, document, specs):
    await started(client, document)
    await client.post("/train/job-1/pause")
    await until(client, lambda job: job["phase"] == "paused")
    await client.patch("/train/job-1", json={"tuning_parameters": {"max_steps": 7}})
    await client.post("/train/job-1/resume")
    await until(client, lambda job: job["status"] == "running")
    assert [spec.request["tuning_parameters"].get("max_steps") for spec in specs] == [None, 7]
    assert specs[1].changes == ()


def test_an_older_change_is_not_repeated_over_a_newer_one_of_an_earlier_step():
    def entry(step, rate, **more):
        return {"id": "i", "step": step, "values": {"tuning_parameters.learning_rate": rate}, **more}

    def rates(*changes):
        return [(kept["step"], kept["values"]["tuning_parameters.learning_rate"]) for kept in for_run(changes)]

    assert rates(entry(57, 1), entry(52, 2)) == [(52, 2)]
    assert rates(entry(10, 1), entry(20, 2)) == [(10, 1), (20, 2)]
    assert rates(entry(10, 1), entry(50, 2, resume=True), entry(60, 3)) == [(60, 3)]
