"""A trainer of the caller's own that counts wrongly, says things twice, or goes on after its end."""

import asyncio


def item(n, step=None):
    return {"n": n, "type": "progress", "data": {"step": n if step is None else step}}


async def told(run, count):
    async with asyncio.timeout(10):
        while len(found := await run.events("progress")) < count:
            await asyncio.sleep(0.02)
    return [event["data"]["step"] for event in found]


async def test_what_was_taken_is_not_told_again_whatever_it_says_now(run):
    await run.begin()
    assert (await run.post([item(1), item(2)]))[1]["accepted_through"] == 2
    status, said = await run.post([item(1, 77), item(2, 78), item(3)])
    assert (status, said["accepted_through"], "error" in said) == (200, 3, False)
    assert (await run.post([item(2), item(1)]))[1] == {"accepted_through": 3, "commands": []}
    assert (await run.post([item(4), item(4, 79), item(5)]))[1]["accepted_through"] == 5
    assert await told(run, 5) == [1, 2, 3, 4, 5]


async def test_nothing_behind_a_hole_is_taken_until_it_is_filled(run):
    await run.begin()
    status, said = await run.post([item(1), item(3), item(4)])
    assert (status, said["accepted_through"]) == (200, 1)
    assert said["error"] == {"n": 2, "path": "[1].n", "message": "must be 2, the next one; got 3"}
    assert (await run.post([item(3)]))[1]["error"]["path"] == "[0].n"
    assert (await run.post([item(2), item(3), item(4)]))[1]["accepted_through"] == 4
    assert await told(run, 4) == [1, 2, 3, 4]


async def test_lists_that_are_posted_at_once_are_taken_one_after_the_other(run):
    await run.begin()
    lists = [[item(n) for n in range(1, last + 1)] for last in (5, 9, 3, 9, 7)]
    answers = await asyncio.gather(*(run.post(items) for items in lists))
    assert {status for status, _ in answers} == {200}
    assert max(said["accepted_through"] for _, said in answers) == 9
    assert await told(run, 9) == list(range(1, 10))


async def test_after_a_pause_its_old_attempt_gets_410_and_the_new_one_counts_from_one(run):
    await run.begin()
    await run.post([item(1)])
    await run.call("POST", "/pause")
    run_secrets = run.folder.secrets(1).read_text()
    await run.until(lambda job: job["phase"] == "paused")
    assert not run.folder.secrets(1).exists()
    run.folder.secrets(1).write_text(run_secrets)  # what the program remembers
    assert (await run.post([item(2)]))[0] == 410
    await run.call("POST", "/resume")
    await run.claimed(2)
    assert (await run.post([item(2)]))[0] == 410
    assert (await run.post([item(1, 50)], attempt=2))[1]["accepted_through"] == 1
    assert await told(run, 2) == [1, 50]


async def test_a_resume_renews_what_the_job_is_warned_of(run):
    await run.begin()
    before = {warning["path"] for warning in (await run.job())["warnings"]}
    assert "resources.cpus" in before
    await run.call("POST", "/pause")
    await run.until(lambda job: job["phase"] == "paused")
    status, job = await run.call("POST", "/resume", {"resources": {"cpus": 1}})
    assert (status, {warning["path"] for warning in job["warnings"]}) == (202, before - {"resources.cpus"})


async def test_what_such_a_program_calls_a_checkpoint_is_listed_while_it_is_there(run):
    await run.begin()
    saved = await run.save(5)
    _, listed = await run.call("GET", "/checkpoints")
    assert [(found["step"], found["uri"]) for found in listed["checkpoints"]] == [(5, str(saved))]
    saved.rmdir()
    assert (await run.call("GET", "/checkpoints"))[1] == {"checkpoints": []}
