"""A run that was stalled, asked to end, and begun again by its backend instead: it is looked after as the first was."""

from attrs import evolve

from backends.simulated.backend import SimulatedBackend
from common.backend import BackendEvent, RunEnded, RunRestarted
from common.job import Reason
from service import stalls
from tests.integration.service.test_pause_and_resume import kinds, until
from tests.integration.service.test_retries import STALLS


async def test_the_next_run_is_told_stalled_and_ended_too(client, document, monkeypatch):
    watch, cancel, asked = SimulatedBackend.watch, SimulatedBackend.cancel, []

    def requeued(self, handle, cursor):
        return events(self, handle, cursor) if handle.attempt == 1 else watch(self, handle, cursor)

    async def events(self, handle, cursor):
        async for event in watch(self, handle, cursor):
            if isinstance(event.what, RunEnded):
                again = evolve(handle, attempt=2, data={**handle.data, "start": self.context.clock.now()})
                yield BackendEvent(what=RunRestarted(reason=Reason.PREEMPTED, handle=again))
                return
            yield event

    async def cancelled(self, handle, grace):
        asked.append(handle.attempt)
        await cancel(self, handle, grace)

    monkeypatch.setattr(stalls, "_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(SimulatedBackend, "watch", requeued)
    monkeypatch.setattr(SimulatedBackend, "cancel", cancelled)
    await client.post("/train", json=document(**STALLS, max_retries=1))
    job = await until(client, lambda job: job["ended_at"])
    assert (job["status"], job["reason"], job["attempt"]) == ("failed", "stalled", 2)
    _, told = await kinds(client)
    assert [event["attempt"] for event in told if event["type"] == "job.stalled"] == [1, 2]
    assert asked == [1, 2]
