"""The simulated backend keeps every promise of a backend: what does not may be no double in tests."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.settings import Settings
from service.revisions import put
from trainyard.testing import BackendConformance, Document, Play, RunningService

pytestmark = pytest.mark.slow


class TestSimulated(BackendConformance):
    name = "simulated"
    pace = 0.5
    exit_codes = (1,)
    signals = ()

    @pytest.fixture
    def settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
        """Two pretended devices, whatever this machine has: where there is no nvidia-smi the setting names them."""
        monkeypatch.setenv("PATH", str(tmp_path))
        return self.default_settings(tmp_path, local_devices="0,1")

    def document(self, job_id: str, play: Play, settings: Settings) -> Document:
        """The same run as a plan; a run that a test will lose is lost by its plan."""
        if lost := play == self.lost:
            play = Play(steps=4, seconds=0.6)
        document = put(super().document(job_id, play, settings), {"resources.gpus": 1})
        outcome = "failed" if play.code else "lost" if lost else "succeeded"
        extra = {"steps": play.steps, "duration_seconds": play.seconds, "outcome": outcome, "devices": True}
        return document | {"extra_parameters": extra}

    def refused(self) -> Mapping[str, Mapping[str, object]]:
        many = {"resources.gpus": 100_000, "extra_parameters.devices": True}
        return {"resources.gpus": many, "resources.max_cost": {"resources.max_cost": 1.0}}

    async def lose(self, service: RunningService, job_id: str) -> None:
        """Nothing to do: its plan has it lost."""

    def began(self, service: RunningService, job_id: str, events: list[Document]) -> int:
        """A plan is played where its events are told."""
        return sum(event["type"] == "job.running" for event in events)

    async def alive(self, service: RunningService, job_id: str) -> list[str]:
        """A plan has no process; what it could leave is the device that it holds."""
        pool = service.backend.context.devices
        return sorted({device.index for device in pool.devices} - set(pool.free()))

    @asynccontextmanager
    async def broken(self, service: RunningService, job_id: str) -> AsyncIterator[None]:
        """Somebody else has the devices; of a job that runs already, those that are left."""
        pool = service.backend.context.devices
        pool.hold("somebody else", pool.free())
        yield
        pool.give_back("somebody else")
