"""Promises about runs that are ended: cancelled while they wait or run, past their deadline."""

import asyncio

import pytest

from common.settings import Settings
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.play import Play
from trainyard.testing.promise import ended_as, kept
from trainyard.testing.requests import merged
from trainyard.testing.service import RunningService

_LONG = 600.0
_STEPS_A_SECOND = 10
_STEPS = 6000
_NOTHING_LEFT = "an end is told when nothing of the run is left"
_END_ALL = "no process: the guard ends every descendant, and `RunEnded` comes after that"


@pytest.mark.asyncio
class Cancels(BackendFixtures):
    """`cancel` ends a run, gently first; a job that only waits never starts."""

    async def test_a_running_job_is_cancelled(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("running", Play(steps=_STEPS, seconds=_LONG), settings))
        await service.running("running", step=2)
        status, answer = await service.call("POST", "/train/running/cancel")
        kept(status == 202, "a running job can be cancelled", f"{status}: {answer}", "202")
        await service.backend.cancel(await service.handle("running"), 1.0)  # once more: it must be idempotent
        job = await service.ended("running")
        events = await service.events("running")
        data = ended_as(job, events, "cancelled", "a run that leaves after `cancel` is cancelled")
        kept(
            (data["step"] or 0) >= 2 and "SIGKILL" not in str(data),
            "`cancel` asks first (SIGTERM, once), so that the run can save and say where it stood",
            data,
            "step 2 or beyond: `RunEnded.step`",
        )
        await self._nothing_is_left(service, "running")

    async def test_a_restarted_service_cancels_what_it_did_not_start(
        self, service: RunningService, settings: Settings
    ) -> None:
        await service.submit(self.document("inherited", Play(steps=_STEPS, seconds=_LONG), settings))
        await service.running("inherited", step=1)
        await service.restart()
        await service.call("POST", "/train/inherited/cancel")
        job = await service.ended("inherited")
        ended_as(
            job,
            await service.events("inherited"),
            "cancelled",
            "`cancel` needs nothing but the handle: the service that started the run may be gone",
        )
        await self._nothing_is_left(service, "inherited")

    async def test_a_run_that_heeds_nothing_is_killed_after_the_grace(
        self, service: RunningService, settings: Settings
    ) -> None:
        play = Play(steps=_STEPS, seconds=_LONG, deaf=True, child=True)
        await service.submit(self.document("deaf", play, settings))
        await service.running("deaf", step=1)
        await service.call("POST", "/train/deaf/cancel")
        job = await service.ended("deaf", settings.grace_seconds)
        ended_as(job, await service.events("deaf"), "cancelled", "after the grace a run is killed")
        await self._nothing_is_left(service, "deaf")

    async def test_a_queued_job_is_cancelled_and_never_starts(
        self, service: RunningService, settings: Settings
    ) -> None:
        async with self.broken(service, "queued"):
            await service.submit(self.document("queued", Play(), settings))
            await service.until("queued", "waiting with a reason", lambda job: job["detail"], 30)
            await service.call("POST", "/train/queued/cancel")
            job = await service.ended("queued")
        ended_as(job, await service.events("queued"), "cancelled", "a job that waits can be cancelled")
        await service.submit(self.document("next", Play(steps=1, seconds=0), settings))
        await service.ended("next")
        count = self.began(service, "queued", await service.events("queued"))
        kept(count == 0, "a job that was cancelled while it waited never starts", f"{count} starts", "none")

    async def test_cancelling_what_is_gone_is_calm(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("gone", Play(steps=1, seconds=0), settings))
        await service.handed_over("gone")
        handle = await service.handle("gone")
        await service.ended("gone")
        before = await service.events("gone")
        for _ in range(2):
            await service.backend.cancel(handle, 1.0)
        kept(
            await service.events("gone") == before,
            "`cancel` of a run that is over changes nothing and raises nothing",
            (await service.events("gone"))[-1],
            "no further event",
        )

    async def _nothing_is_left(self, service: RunningService, job_id: str) -> None:
        left = await self.alive(service, job_id)
        kept(not left, _NOTHING_LEFT, f"still alive: {left}", _END_ALL)


@pytest.mark.asyncio
class KeepsDeadlines(BackendFixtures):
    """`resources.max_duration_minutes` is kept by the run's own guard, with or without a service."""

    async def test_past_its_deadline_a_run_is_ended(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self._document("late", settings))
        job = await service.ended("late", self._seconds)
        await self._time_limit(service, job)

    async def test_the_deadline_holds_while_the_service_is_away(
        self, service: RunningService, settings: Settings
    ) -> None:
        await service.submit(self._document("alone", settings))
        await service.reached("alone", step=1)
        await service.stop()
        await asyncio.sleep(self._seconds + 2.5 * self.pace)
        await service.start()
        job = await service.ended("alone")
        await self._time_limit(service, job)
        steps = len(await service.steps("alone"))
        kept(
            steps / _STEPS_A_SECOND < self._seconds + 2.0 * self.pace,
            "a run past its deadline ends by itself, without the service",
            f"{steps} steps, {_STEPS_A_SECOND} a second, with a deadline of {self._seconds} s",
            "no step after the deadline: the guard keeps it (`deadline_minutes` in spec.json)",
        )

    async def _time_limit(self, service: RunningService, job: dict[str, object]) -> None:
        data = ended_as(job, await service.events(str(job["job_id"])), "failed", "a run past its deadline has failed")
        kept(
            data["reason"] == "time_limit",
            "a deadline is told as one: `RunEnded.reason`",
            data,
            "reason time_limit, from the `reason` of exit.json (or the scheduler's word)",
        )
        left = await self.alive(service, str(job["job_id"]))
        kept(not left, _NOTHING_LEFT, f"still alive: {left}", _END_ALL)

    @property
    def _seconds(self) -> float:
        return 1.2 * self.pace

    def _document(self, job_id: str, settings: Settings) -> dict[str, object]:
        document = self.document(job_id, Play(steps=_STEPS, seconds=_LONG), settings)
        return merged(document, resources__max_duration_minutes=self._seconds / 60)
