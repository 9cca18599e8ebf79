"""`PATCH` of a job whose run answers, or never does: what is told when, and what is refused at once. Real guards."""

import asyncio
import json

import attrs

from backends.local.backend import LocalBackend
from tests.integration.service.own_runs import DEAF, SLEEPS, OwnRun

UNTIL_GO = "while [ ! -e go ]; do sleep 0.05; done"
LEARNING_RATE = {"tuning_parameters": {"learning_rate": 1e-5}}


async def changed(run, count=1):
    async with asyncio.timeout(30):
        while len(found := await run.events("changed")) < count:
            await asyncio.sleep(0.02)
    return [event["data"] for event in found]


async def command(run, values):
    """The command with these values, as soon as it is sent."""
    async with asyncio.timeout(30):
        while not (found := [c for c in (await run.post([]))[1]["commands"] if c["values"] == values]):
            await asyncio.sleep(0.02)
    return found[0]


async def test_a_changed_deadline_is_told_though_the_program_acknowledges_nothing_and_it_holds(run):
    await run.begin()
    await run.post([{"n": 1, "type": "progress", "data": {"step": 4}}])
    await run.until(lambda job: (job["progress"] or {}).get("step") == 4)
    assert (await run.call("PATCH", "", {"resources": {"max_duration_minutes": 7}}))[0] == 202
    (told,) = await changed(run)
    (command,) = (await run.post([]))[1]["commands"]
    await run.post([{"n": 2, "type": "ack", "data": {"id": command["id"], "ok": False, "message": "what is that?"}}])
    path = "resources.max_duration_minutes"
    assert told == {"request": {path: 7}, "old": {path: 480}, "new": {path: 7}, "step": 4}
    assert (await run.call("PATCH", "", {"resources": {"max_duration_minutes": 0.001}}))[0] == 202
    job = await run.until(lambda job: job["ended_at"])
    assert (job["status"], job["reason"]) == ("failed", "time_limit")
    assert [entry["step"] for entry in job["metadata"]["job_spec"]["changes"]] == [4, 4]
    assert [told.get("error") for told in await changed(run, 2)] == [None, None]


async def test_of_a_change_with_a_deadline_each_part_is_told_when_it_holds(run):
    await run.begin()
    assert (await run.call("PATCH", "", {"resources": {"max_duration_minutes": 7}, **LEARNING_RATE}))[0] == 202
    (told,) = await changed(run)
    assert told["new"] == {"resources.max_duration_minutes": 7}
    mine = await command(run, {"tuning_parameters.learning_rate": 1e-5})
    await run.post([{"n": 1, "type": "ack", "data": {"id": mine["id"], "ok": True, "step": 3}}])
    _, told = await changed(run, 2)
    assert (told["new"], told["step"]) == ({"tuning_parameters.learning_rate": 1e-5}, 3)


async def test_a_change_that_no_run_took_is_told_as_refused_when_the_job_succeeds(run):
    await run.begin(UNTIL_GO)
    assert (await run.call("PATCH", "", LEARNING_RATE))[0] == 202
    await asyncio.sleep(0.2)
    assert await run.events("changed") == []
    (run.folder.path / "go").touch()
    job = await run.until(lambda job: job["ended_at"])
    (told,) = await changed(run)
    assert told["error"] == "the run ended before it took it"
    assert told["old"] == told["new"] == {"tuning_parameters.learning_rate": 0.0002}
    assert (job["status"], job["metadata"]["job_spec"]["changes"]) == ("succeeded", [])


async def test_a_change_that_no_run_took_holds_from_the_resume(run):
    await run.begin(DEAF)
    await run.call("PATCH", "", LEARNING_RATE)
    await run.call("POST", "/pause")
    await run.until(lambda job: job["phase"] == "paused")
    assert await run.events("changed") == []
    assert (await run.call("POST", "/resume"))[0] == 202
    (told,) = await changed(run)
    assert (told["new"], told["step"]) == ({"tuning_parameters.learning_rate": 1e-5}, 0)


async def test_changes_of_waiting_jobs_and_of_labels_tell_the_step_too(run):
    await run.begin()
    await run.post([{"n": 1, "type": "progress", "data": {"step": 4}}])
    await run.until(lambda job: (job["progress"] or {}).get("step") == 4)
    await run.save(3, n=2)
    await run.call("PATCH", "", {"labels": {"a": "b"}})
    await run.call("POST", "/pause")
    await run.until(lambda job: job["phase"] == "paused")
    await run.call("PATCH", "", {"priority": 3})
    await run.call("PATCH", "", {"tuning_parameters": {"max_steps": 9}})
    assert [told["step"] for told in await changed(run, 3)] == [4, 3, 3]


async def test_changes_at_once_are_all_kept_in_one_order_and_reach_the_run_in_it(run):
    await run.begin()
    bodies = [{"tuning_parameters": {"max_steps": steps}} for steps in range(1, 9)]
    answers = await asyncio.gather(*(run.call("PATCH", "", body) for body in bodies))
    assert {status for status, _ in answers} == {202}
    kept = [entry["values"] for entry in (await run.job())["metadata"]["job_spec"]["changes"]]
    async with asyncio.timeout(30):
        while len(commands := (await run.post([]))[1]["commands"]) < 8:
            await asyncio.sleep(0.02)
    assert [command["values"] for command in commands] == kept
    assert sorted(values["tuning_parameters.max_steps"] for values in kept) == list(range(1, 9))


async def test_what_a_run_is_known_to_refuse_is_a_409_with_the_path_and_the_rest_is_not(
    client, settings, tmp_path, monkeypatch
):
    def waits(self, request, real=LocalBackend.build_job_spec):
        return attrs.evolve(real(self, request), argv=("sh", "-c", SLEEPS))

    monkeypatch.setattr(LocalBackend, "build_job_spec", waits)  # a trainer would end by itself: the model is none
    run = OwnRun(client, settings.jobs_dir, tmp_path, "preferring")
    model, rows = tmp_path / "model", tmp_path / "rows.jsonl"
    model.mkdir()
    (model / "config.json").write_text("{}")
    rows.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    document = run.document("") | {
        "base_model": {"provider": "custom", "model_name": str(model)},
        "customization": {"precision": "fp32"},
        "datasets": [{"source": str(rows), "format": "jsonl"}],
        "tuning_parameters": {"objective": "dpo"},
        "extra_parameters": {},
    }
    assert (await client.post("/train", json=document)).status == 201
    await run.until(lambda job: job["backend_job_id"])
    more_steps = {"tuning_parameters": {"max_steps": 9, "learning_rate": 1e-5}}
    status, problem = await run.call("PATCH", "", more_steps | {"resources": {"max_duration_minutes": 7}})
    assert (status, problem["error"]["code"]) == (409, "not_supported")
    assert problem["detail"].startswith("tuning_parameters.max_steps: stays as it is in a run with objective 'dpo'")
    assert (await run.job())["metadata"]["job_spec"]["changes"] == []
    status, _ = await run.call("PATCH", "", {"resources": {"max_duration_minutes": 7}})
    assert status == 202
    await run.call("POST", "/cancel")
    await run.until(lambda job: job["ended_at"])
