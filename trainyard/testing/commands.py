"""Promises about what a running job can be told: of its backend's capabilities each one, and no other."""

import pytest

from common.backend import CAPABILITIES, Command, DumpStacks, Validate
from common.settings import Settings
from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.play import Play
from trainyard.testing.promise import kept
from trainyard.testing.service import RunningService

_LONG = Play(steps=6000, seconds=600)
_STACK = "most recent call first"
_OFFERED = "a capability that is not named is refused with 409, one that is named works"


@pytest.mark.asyncio
class TakesCommands(BackendFixtures):
    """`send` passes a command to the run, and its answer comes back as an event."""

    async def test_it_names_only_known_capabilities(self, service: RunningService) -> None:
        unknown = service.backend.capabilities - CAPABILITIES
        kept(
            not unknown, "capabilities are words that the service knows", sorted(unknown), f"of {sorted(CAPABILITIES)}"
        )

    async def test_a_checkpoint_is_written_on_demand(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("saves", _LONG, settings))
        await service.running("saves", step=1)
        status, answer = await service.call("POST", "/train/saves/checkpoint")
        if "checkpoint_now" not in service.backend.capabilities:
            kept(status == 409, _OFFERED, f"{status}: {answer}", "409, as `checkpoint_now` is not named")
            return
        kept(status == 202, _OFFERED, f"{status}: {answer}", "202, as `checkpoint_now` is named")
        await self._until_told(service, "saves", "checkpoint", "`send(handle, Checkpoint)`")

    async def test_a_running_job_is_changed(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("changes", _LONG, settings))
        await service.running("changes", step=1)
        patch = {"tuning_parameters": {"learning_rate": 0.125}}
        status, answer = await service.call("PATCH", "/train/changes", patch)
        if "change" not in service.backend.capabilities:
            kept(status == 409, _OFFERED, f"{status}: {answer}", "409, as `change` is not named")
            return
        kept(status == 202, _OFFERED, f"{status}: {answer}", "202, as `change` is named")
        await self._until_told(service, "changes", "changed", "`send(handle, Change)`")
        data = next(e["data"] for e in await service.events("changes") if e["type"] == "job.changed")
        kept(
            data.get("error") is None and (data["step"] or 0) >= 1,
            "the run's ack comes back as `RunAck`, with the step that the change holds from",
            data,
            "RunAck(command_id=…, ok=True, step=…)",
        )

    async def test_a_validation_runs_on_demand(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("validates", _LONG, settings))
        await service.running("validates", step=1)
        command = Validate(id="conformance-validate")
        if "validate_now" in service.backend.capabilities:
            await service.backend.send(await service.handle("validates"), command)
            await self._until_told(service, "validates", "validation", "`send(handle, Validate)`")
        else:
            await self._is_never_taken(service, "validates", command)

    async def test_the_stacks_of_a_run_are_shown_on_demand(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("hangs", _LONG, settings))
        await service.running("hangs", step=1)
        command = DumpStacks(id="conformance-stacks")
        if "dump_stacks" not in service.backend.capabilities:
            await self._is_never_taken(service, "hangs", command)
            return
        await service.backend.send(await service.handle("hangs"), command)
        if "logs" in service.backend.capabilities:
            kept(
                await service.comes_true(lambda: self._shows_stacks(service, "hangs")),
                "`send(handle, DumpStacks)` writes the stack of every process of the run into its log",
                str(await service.get("/train/hangs/logs"))[-500:],
                f"{_STACK!r} and the lines of each thread: SIGUSR2 to the guard, which passes it on",
            )
        step = (await service.job("hangs"))["progress"]["step"]
        job = await service.running("hangs", step + 2)
        kept(job["status"] == "running", "a run whose stacks are shown goes on", job["status"], "running")

    async def test_a_running_job_is_paused_and_resumed(self, service: RunningService, settings: Settings) -> None:
        await service.submit(self.document("rests", _LONG, settings))
        await service.running("rests", step=2)
        status, answer = await service.call("POST", "/train/rests/pause")
        if "pause" not in service.backend.capabilities:
            kept(status == 409, _OFFERED, f"{status}: {answer}", "409, as `pause` is not named")
            return
        kept(status == 202, _OFFERED, f"{status}: {answer}", "202, as `pause` is named")
        await service.until("rests", "paused", lambda job: job["phase"] == "paused")
        left = await self.alive(service, "rests")
        kept(not left, "a paused job holds nothing", f"still alive: {left}", "no process, no device, no slot")
        status, answer = await service.call("POST", "/train/rests/resume")
        kept(status == 202, "a paused job can be resumed", f"{status}: {answer}", "202")
        again = "running at its next attempt"
        await service.until("rests", again, lambda job: job["status"] == "running" and job["attempt"] == 2)
        types = await service.types("rests")
        kept(
            types.count("submitted") == 2 and types.count("paused") == 1,
            "a resumed job goes on under its next attempt",
            types,
            "queued, submitted, running, …, paused, queued, submitted, running",
        )

    async def _is_never_taken(self, service: RunningService, job_id: str, command: Command) -> None:
        try:
            await service.backend.send(await service.handle(job_id), command)
            seen = "it was taken in silence"
        except TypeError:
            seen = ""
        kept(not seen, "a command without its capability is never taken", seen, "TypeError, as `super().send` raises")

    async def _shows_stacks(self, service: RunningService, job_id: str) -> bool:
        return _STACK in str(await service.get(f"/train/{job_id}/logs"))

    async def _until_told(self, service: RunningService, job_id: str, kind: str, call: str) -> None:
        types: list[str] = []

        async def told() -> bool:
            types[:] = await service.types(job_id)
            return kind in types

        kept(
            await service.comes_true(told),
            f"{call} reaches the run, and what it says of it is told",
            types[-10:],
            f"an event job.{kind}: the command as a line of control.jsonl, or in the answer to the run's own POST",
        )
