"""Promises about a run that goes its way: told from its start to its end, with how it ended."""

import pytest

from common.backend import BackendEvent, Cursor, Handle, RunBegan, RunEnded
from common.event import JobProgress
from common.settings import Settings
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.follow import told
from trainyard.testing.play import Play
from trainyard.testing.promise import ended_as, kept
from trainyard.testing.service import RunningService

_NO_GAP = "every event of a run reaches the job, once and in order"


@pytest.mark.asyncio
class TellsRuns(BackendFixtures):
    """`submit`, then `watch`: a run is told from its beginning to its end."""

    async def test_a_run_is_told_to_its_end(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("whole", Play(steps=5, seconds=0.3), settings))
        job = await service.ended("whole")
        events = await service.events("whole")
        ended_as(job, events, "succeeded", "a run that leaves with 0 has succeeded: `RunEnded(code=0)`")
        types = [event["type"].removeprefix("job.") for event in events]
        kept(
            types[:3] == ["queued", "submitted", "running"] and types.count("running") == 1,
            "`RunBegan` is told when the run is at work, once",
            types,
            "queued, submitted, running, then what the run says",
        )
        steps = await service.steps("whole")
        kept(steps == [1, 2, 3, 4, 5], _NO_GAP, f"steps {steps}", "1, 2, 3, 4, 5")
        kept(
            [event["sequence"] for event in events] == list(range(1, len(events) + 1)),
            "a job's events are numbered without a gap",
            [event["sequence"] for event in events],
            "1, 2, 3 …",
        )
        kept(
            job["backend_job_id"],
            "`Handle.backend_job_id` is the name under which the run is found on the backend's own side",
            job["backend_job_id"],
            "a string: the scheduler's job number, a pod's name, …",
        )

    async def test_a_program_posts_its_events(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("posts", Play(steps=3, seconds=0.1, post=True), settings))
        job = await service.ended("posts")
        ended_as(job, await service.events("posts"), "succeeded", "a program reaches the service from where it runs")
        steps = await service.steps("posts")
        kept(
            steps == [1, 2, 3],
            "a program finds `TRAINYARD_EVENTS_URL` and `TRAINYARD_JOB_TOKEN`, and posts its events there",
            f"steps {steps}",
            "1, 2, 3: start it by the guard, which has both from `secrets.<n>`; `on_this_machine` only where it is",
        )

    async def test_watching_again_goes_on_from_the_cursor(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("again", Play(steps=3, seconds=0.1), settings))
        await service.handed_over("again")
        handle = await service.handle("again")
        whole = await told(service, handle, None)
        steps = _steps(whole)
        kept(steps == [1, 2, 3], _NO_GAP, f"`watch(handle, None)` tells steps {steps}", "1, 2, 3")
        kept(
            sum(isinstance(event.what, RunEnded) for event in whole) == 1 and isinstance(whole[-1].what, RunEnded),
            "`watch` ends after one `RunEnded`",
            [type(event.what).__name__ for event in whole],
            "RunEnded last, and only once; then the iterator is over",
        )
        for n, event in enumerate(whole[:-1]):
            kept(
                event.cursor is not None or not isinstance(event.what, JobProgress),
                "an event comes with the cursor to go on from",
                event,
                "BackendEvent(what=…, cursor=Cursor(file=…, n=…))",
            )
            if event.cursor is not None:
                await self._goes_on(service, handle, event.cursor, _steps(whole[n + 1 :]))

    async def _goes_on(self, service: RunningService, handle: Handle, cursor: Cursor, expected: list[int]) -> None:
        rest = await told(service, handle, cursor)
        kept(
            _steps(rest) == expected and not any(isinstance(event.what, RunBegan) for event in rest),
            "`watch(handle, cursor)` tells what comes behind the cursor, and nothing of before",
            f"behind {cursor}: {[event.what for event in rest]}",
            f"steps {expected}, then RunEnded; no RunBegan again",
        )

    async def test_two_jobs_run_at_once_and_are_kept_apart(self, service: RunningService, settings: Settings) -> None:
        for job_id, count in (("one", 6000), ("two", 9000)):
            await service.submit(self.document(job_id, Play(steps=count, seconds=count / 10), settings))
        jobs = [await service.handed_over(job_id) for job_id in ("one", "two")]
        kept(
            jobs[0]["backend_job_id"] != jobs[1]["backend_job_id"],
            "every job has an id of its own on the backend's side",
            [job["backend_job_id"] for job in jobs],
            "two different ones",
        )
        totals = [(await service.running(job_id, step=2))["progress"]["total_steps"] for job_id in ("one", "two")]
        kept(totals == [6000, 9000], "each job is told of its own run alone", f"total_steps {totals}", "6000 and 9000")
        await service.call("POST", "/train/one/cancel")
        ended_as(await service.ended("one"), await service.events("one"), "cancelled", "one job is cancelled")
        step = (await service.job("two"))["progress"]["step"]
        job = await service.running("two", step + 2)
        kept(job["status"] == "running", "the end of one job disturbs no other", job["status"], "the second goes on")
        steps = await service.steps("two")
        kept(steps == list(range(1, len(steps) + 1)), _NO_GAP, f"steps {steps}", "1, 2, 3 …")


@pytest.mark.asyncio
class TellsExitCodes(BackendFixtures):
    """A failed run comes with its exit code or signal, and with the end of its log."""

    async def test_a_failure_has_its_exit_code(self, service: RunningService, settings: Settings) -> None:
        for code in self.exit_codes:
            await service.submit(self.document(f"code-{code}", Play(steps=1, seconds=0, code=code), settings))
        for code in self.exit_codes:
            job = await service.ended(f"code-{code}")
            data = ended_as(job, await service.events(f"code-{code}"), "failed", "a run that leaves with not 0 failed")
            kept(
                data["exit_code"] == code and data["signal"] is None,
                "`RunEnded.code` is the exit status of the program",
                {"exit_code": data["exit_code"], "signal": data["signal"], "reason": data["reason"]},
                f"exit_code {code}, no signal: the guard's exit.json has it, whatever the scheduler makes of it",
            )
            if "logs" in service.backend.capabilities:
                kept(
                    data["log_tail"],
                    "a failure has the end of the log with it (`RunEnded.log_tail`; capability `logs`)",
                    data["log_tail"],
                    "the last lines of what the run wrote to stdout and stderr",
                )

    async def test_a_signal_is_told_as_one(self, service: RunningService, settings: Settings) -> None:
        for number in self.signals:
            await service.submit(self.document(f"signal-{number}", Play(steps=1, seconds=0, signal=number), settings))
            job = await service.ended(f"signal-{number}")
            data = ended_as(job, await service.events(job["job_id"]), "failed", "a run that a signal ends has failed")
            kept(
                data["signal"] == number and data["exit_code"] is None and data["reason"] == "killed",
                "`RunEnded.signal` is the signal that the program died of",
                data,
                f"signal {int(number)}, no exit code (not {128 + number}), reason killed",
            )


def _steps(events: list[BackendEvent]) -> list[int]:
    return [event.what.step for event in events if isinstance(event.what, JobProgress)]
