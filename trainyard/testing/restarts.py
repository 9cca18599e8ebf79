"""Promises that hold while the service comes and goes: nothing lost, nothing told twice, nothing run twice."""

import asyncio

import pytest

from common.backend import Handle
from common.settings import Settings
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.follow import told
from trainyard.testing.play import Play
from trainyard.testing.promise import ended_as, kept
from trainyard.testing.requests import merged
from trainyard.testing.service import RunningService

_ONE_START = "an attempt is started at most once, however often it is submitted"
_CLAIM = "one: the run claims its attempt before anything else (`mkdir attempts/<n>.<restart>`; the guard does it)"


@pytest.mark.asyncio
class SurvivesRestarts(BackendFixtures):
    """The service stops and starts; the run goes on, and is told as if nothing had been."""

    async def test_a_restart_in_the_middle_loses_and_doubles_nothing(
        self, service: RunningService, settings: Settings
    ) -> None:
        seconds = 2.0 * self.pace
        await service.submit(self.document("long", Play(steps=20, seconds=seconds), settings))
        for step in (2, 8):
            await service.reached("long", step)
            await service.restart()
        job = await service.ended("long", seconds)
        ended_as(job, await service.events("long"), "succeeded", "a run goes on while the service is away")
        steps, types = await service.steps("long"), await service.types("long")
        kept(
            steps == list(range(1, 21)),
            "after a restart `watch` goes on from the stored cursor",
            f"steps {steps}",
            "1 … 20, each once",
        )
        kept(types.count("running") == 1, "a run begins once", types, "one job.running")
        count = self.began(service, "long", await service.events("long"))
        kept(count == 1, "a restarted service starts no run again", f"{count} starts", "one")

    async def test_what_ended_meanwhile_is_told_afterwards(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("meanwhile", Play(steps=5, seconds=0.5 * self.pace), settings))
        await service.reached("meanwhile", 1)
        await service.stop()
        await asyncio.sleep(1.0 * self.pace)
        await service.start()
        job = await service.ended("meanwhile")
        ended_as(job, await service.events("meanwhile"), "succeeded", "an end that nobody saw is told when one looks")
        steps = await service.steps("meanwhile")
        kept(steps == [1, 2, 3, 4, 5], "what a run said is kept until it is read", steps, "1 … 5, each once")

    async def test_a_restarted_service_gives_nothing_away_twice(
        self, service: RunningService, settings: Settings
    ) -> None:
        await service.submit(self.document("keeps", Play(steps=6000, seconds=600), settings))
        await service.running("keeps", step=1)
        before, needs = await service.backend.capacity(), (await service.spec("keeps")).needs
        await service.restart()
        after = await service.backend.capacity()
        held = {name: count for name, count in (after.free or {}).items() if count > (before.free or {}).get(name, 0)}
        kept(
            not held,
            "the call of `watch` itself takes up what the handle holds, before anything is given away",
            f"after a restart free {after.free}, before {before.free}; the run needs {dict(needs)}",
            "no more than before: what a run holds belongs into its handle, or is found by `start`",
        )


@pytest.mark.asyncio
class SubmitsOnce(BackendFixtures):
    """`submit` may come twice, and its answer may be lost: one run comes of it."""

    async def test_a_kill_between_submit_and_its_handle_loses_nothing(
        self, service: RunningService, settings: Settings
    ) -> None:
        seconds = 1.0 * self.pace
        async with service.killed_at_submit() as submissions:
            await service.submit(self.document("orphan", Play(steps=10, seconds=seconds), settings))
            async with asyncio.timeout(30 * self.pace):
                handle = (await submissions.get()).handle
            await service.restart()
        job = await service.ended("orphan", seconds)
        ended_as(job, await service.events("orphan"), "succeeded", "a submission without a stored handle is found")
        count = self.began(service, "orphan", await service.events("orphan"))
        kept(count == 1, "`find` gives the handle of a submission that went through", f"{count} starts", _CLAIM)
        steps = await service.steps("orphan")
        kept(steps == list(range(1, 11)), "nothing of such a run is lost", f"steps {steps}", "1 … 10, each once")
        kept(
            handle is not None and job["backend_job_id"] == handle.backend_job_id,
            "`find` gives the handle that `submit` gave",
            job["backend_job_id"],
            handle,
        )

    async def test_a_second_submit_of_an_attempt_is_the_same_run(
        self, service: RunningService, settings: Settings
    ) -> None:
        await service.submit(self.document("twice", Play(steps=6000, seconds=600), settings))
        await service.running("twice", step=1)
        record, spec = await service.record("twice"), await service.spec("twice")
        if spec.folder:
            kept(
                await service.backend.find(record.job, record.job.attempt) is not None,
                "`find` gives the handle of a run that lives",
                "None",
                "its handle: where `find` says None, a cancelled job's run would go on with nobody to end it",
            )
        again = await service.backend.submit(record.job, record.job.attempt, spec)
        kept(
            (again.uid, again.attempt) == (record.job.uid, record.job.attempt),
            "a second `submit` of an attempt gives a handle of the same run",
            again,
            record.handle,
        )
        await asyncio.sleep(1.0 * self.pace)
        await service.running("twice", step=5)
        await service.call("POST", "/train/twice/cancel")
        job = await service.ended("twice")
        ended_as(job, await service.events("twice"), "cancelled", "a second `submit` disturbs no run")
        steps = await service.steps("twice")
        gapless = list(range(1, len(steps) + 1))
        kept(steps == gapless, "a second `submit` adds no event", f"steps {steps}", "1, 2, 3 …, each once")
        count = self.began(service, "twice", await service.events("twice"))
        kept(count == 1, _ONE_START, f"{count} starts", _CLAIM)

    async def test_what_was_never_submitted_is_not_found(self, service: RunningService, settings: Settings) -> None:
        async with self.broken(service, "never"):
            await service.submit(self.document("never", Play(), settings))
            await service.until("never", "waiting with a reason", lambda job: job["detail"], 30)
            job = (await service.record("never")).job
            await service.call("POST", "/train/never/cancel")
            await service.ended("never")
        found = await service.backend.find(job, 1)
        kept(found is None, "`find` gives None for what was never handed over", found, "None, once it is sure")


@pytest.mark.asyncio
class ShutsOutTheLate(BackendFixtures):
    """A submission that comes through too late has no effect; nothing that is over begins again."""

    async def test_a_late_start_leaves_without_an_effect(self, service: RunningService, settings: Settings) -> None:
        seconds = 1.5 * self.pace
        async with service.submissions_held_up() as submissions:
            await service.submit(self.document("late", Play(steps=10, seconds=seconds), settings))
            async with asyncio.timeout(30 * self.pace):
                late = await submissions.get()
            await service.call("POST", "/train/late/cancel")
            await service.ended("late")
        status, answer = await service.call("POST", "/train/late/resume")
        kept(status == 202, "a cancelled job can be resumed", f"{status}: {answer}", "202")
        await service.reached("late", step=1)
        handle = await service.backend.submit(late.job, late.attempt, late.spec)
        if late.spec.folder:
            await self._is_shut_out(service, handle)
        job = await service.ended("late", seconds)
        events = await service.events("late")
        ended_as(job, events, "succeeded", "a submission thought lost does not disturb the attempt that took its place")
        steps, count = await service.steps("late"), self.began(service, "late", events)
        kept(
            count == 1 and steps == list(range(1, 11)),
            "a submission thought lost that starts after all leaves by the fence",
            f"{count} starts; steps {steps}",
            "one start, that of attempt 2, and its steps 1 … 10: a run looks at the file `attempt` right after its "
            "claim, and leaves with 77 where that is larger (the guard does it)",
        )

    async def _is_shut_out(self, service: RunningService, handle: Handle) -> None:
        events = await told(service, handle, None)
        end = events[-1].what
        kept(
            getattr(end, "code", None) == 77 or getattr(end, "reason", None) is not None,
            "a run that was shut out ends with 77, or was never there",
            end,
            "RunEnded(code=77)",
        )

    async def test_a_finished_job_is_never_started_again(self, service: RunningService, settings: Settings) -> None:
        document = self.document("finished", Play(steps=3, seconds=0), settings)
        await service.submit(merged(document, extra_parameters__max_retries=3))
        await service.ended("finished")
        before = await service.events("finished")
        await self.start_again(service, "finished")
        await service.restart()
        await service.submit(self.document("behind", Play(steps=1, seconds=0.3 * self.pace), settings))
        await service.ended("behind")
        after = await service.events("finished")
        count = self.began(service, "finished", after)
        kept(
            count == 1 and after == before,
            "a job that has ended is never started again, whatever the cluster shows",
            f"{count} starts; further events {[e['type'] for e in after[len(before) :]]}",
            "one start: the fence is beyond every restart of a finished attempt",
        )
