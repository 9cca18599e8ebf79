"""Promises about clusters that break and runs that get lost."""

import asyncio

import pytest

from common.backend import Capacity
from common.job import Reason
from common.settings import Settings
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.play import Play
from trainyard.testing.promise import ended_as, kept
from trainyard.testing.requests import merged
from trainyard.testing.service import RunningService

_NOBODYS_FAULT = sorted(map(str, (Reason.LOST, Reason.KILLED, Reason.NODE_FAILURE, Reason.PREEMPTED)))


@pytest.mark.asyncio
class NoticesLostRuns(BackendFixtures):
    """A run that vanishes is told as lost, is tried again where that was asked, and leaves nothing behind."""

    async def test_a_lost_run_is_told_and_its_orphans_are_ended(
        self, service: RunningService, settings: Settings
    ) -> None:
        await service.submit(self.document("lost", self.lost, settings))
        await service.reached("lost", step=1)
        await self.lose(service, "lost")
        job = await service.ended("lost")
        data = ended_as(job, await service.events("lost"), "failed", "a run without an outcome has failed")
        kept(
            data["reason"] in _NOBODYS_FAULT,
            "a run that vanished is nobody's fault: `RunEnded.reason`",
            data,
            f"one of {', '.join(_NOBODYS_FAULT)}; lost where nothing better is known",
        )
        left = await self.alive(service, "lost")
        kept(
            not left,
            "what a lost run leaves behind is ended before its end is told, or two runs would write one job's files",
            f"still alive: {left}",
            "no process (`trainyard.guard.end_run(<uid>.<attempt>.<restart>)` where the run was)",
        )

    async def test_a_lost_run_is_tried_again(self, service: RunningService, settings: Settings) -> None:
        document = self.document("retried", self.lost, settings)
        await service.submit(merged(document, extra_parameters__max_retries=1))
        await service.reached("retried", step=1)
        await self.lose(service, "retried")
        job = await service.until("retried", "at its next attempt", lambda job: job["attempt"] == 2)
        kept(job["status"] != "failed", "a lost run is tried again where `max_retries` allows", job["status"], "queued")
        await service.until("retried", "handed over again", lambda job: job["backend_job_id"] and job["attempt"] == 2)
        types = await service.types("retried")
        kept(
            types.count("submitted") == 2 and types.count("retrying") == 1,
            "each attempt is handed over once",
            types,
            "submitted, …, retrying, submitted",
        )


@pytest.mark.asyncio
class EndsOrphans(BackendFixtures):
    """When a run is over nothing of it is left, whatever it started."""

    async def test_what_a_run_leaves_behind_is_ended(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("parent", Play(steps=2, seconds=0.1, child=True), settings))
        job = await service.ended("parent")
        ended_as(job, await service.events("parent"), "succeeded", "a process left behind spoils no result")
        left = await self.alive(service, "parent")
        kept(
            not left,
            "the end is told when nothing of the run is left, so that its devices are free",
            f"still alive: {left}",
            "no process: the guard is the sub-reaper of the run, and ends what it left",
        )

    async def test_what_a_run_held_is_free_again(self, service: RunningService, settings: Settings) -> None:
        before = await service.backend.capacity()
        await service.submit(self.document("holds", Play(steps=2, seconds=0.1), settings))
        await service.ended("holds")
        kept(
            await service.comes_true(lambda: self._is_free(service, before)),
            "what a run held is free again when its end is told",
            f"free {(await service.backend.capacity()).free}, before {before.free}",
            "as much as before: give it back right before `RunEnded`",
        )

    async def _is_free(self, service: RunningService, before: Capacity) -> bool:
        return (await service.backend.capacity()).free == before.free


@pytest.mark.asyncio
class WaitsForTheCluster(BackendFixtures):
    """A cluster that is broken fails no job: jobs wait, and say why."""

    async def test_a_job_waits_with_the_reason_until_the_cluster_is_mended(
        self, service: RunningService, settings: Settings
    ) -> None:
        async with self.broken(service, "waits"):
            await service.submit(self.document("waits", Play(), settings))
            job = await service.until("waits", "waiting with a reason", lambda job: job["detail"], 30)
            kept(
                job["status"] == "queued" and len(job["detail"]) > 5,
                "`BackendUnavailable` means: later. The job waits, with the message as its `detail`",
                {"status": job["status"], "detail": job["detail"]},
                "queued, and a sentence that says what is broken and what to look at",
            )
        job = await service.ended("waits", 10)
        ended_as(job, await service.events("waits"), "succeeded", "a job that waited runs when the cluster is mended")

    async def test_a_cluster_that_breaks_fails_no_running_job(
        self, service: RunningService, settings: Settings
    ) -> None:
        seconds = 1.5 * self.pace
        await service.submit(self.document("goes-on", Play(steps=15, seconds=seconds), settings))
        await service.reached("goes-on", step=2)
        async with self.broken(service, "goes-on"):
            await asyncio.sleep(0.5 * self.pace)
        job = await service.ended("goes-on", seconds)
        ended_as(job, await service.events("goes-on"), "succeeded", "one failed question never means a run is gone")
        steps = await service.steps("goes-on")
        kept(steps == list(range(1, 16)), "nothing is lost while the cluster is deaf", f"steps {steps}", "1 … 15")
