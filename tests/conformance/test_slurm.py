"""The Slurm backend keeps every promise of a backend, with a real Slurm."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from common.settings import Settings
from tests.slurm_cluster import Cluster
from trainyard.testing import BackendConformance, RunningService

pytestmark = pytest.mark.slow


class TestSlurm(BackendConformance):
    name = "slurm"
    pace = 1.2

    @pytest.fixture(autouse=True)
    def cluster(self, slurm: Cluster) -> Cluster:
        self.slurm = slurm
        return slurm

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        return self.default_settings(tmp_path, slurm_poll_seconds=0.2)

    @asynccontextmanager
    async def broken(self, service: RunningService, job_id: str) -> AsyncIterator[None]:
        """Nobody can prove to Slurm who he is (a dead controller is noticed only after 9 s: tests/slurm has that)."""
        with self.slurm.without("munged"):
            yield

    async def visible(self, service: RunningService, job_id: str) -> Mapping[str, str]:
        number = (await service.handle(job_id)).backend_job_id
        shown = {
            "scontrol show job": self.slurm.call("scontrol", "show", "job", str(number)),
            "the script": self.slurm.call("scontrol", "write", "batch_script", str(number), "-"),
        }
        return {**await super().visible(service, job_id), **shown}

    def refused(self) -> Mapping[str, Mapping[str, object]]:
        return {
            "resources.gpus": {"resources.gpus": 3},
            "extra_parameters.partition": {"extra_parameters.partition": "nosuch"},
        }
