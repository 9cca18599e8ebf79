"""What callers are told of a Slurm cluster, through the service."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from common.settings import Settings
from service.revisions import put
from tests.slurm_cluster import Cluster
from trainyard.testing import BackendFixtures, Play, RunningService

pytestmark = pytest.mark.slow


class _Slurm(BackendFixtures):
    name = "slurm"


@pytest.fixture
async def service(slurm: Cluster, tmp_path: Path) -> AsyncIterator[RunningService]:
    made = RunningService(_Slurm().default_settings(tmp_path, slurm_poll_seconds=0.2), 1.5)
    await made.start()
    yield made
    await made.end()


def document(service: RunningService, job_id: str, play: Play, **values: Any) -> dict[str, Any]:
    settings: Settings = service.settings
    return put(_Slurm().document(job_id, play, settings), values)


async def test_a_deadline_beyond_slurms_own_limit_is_a_conflict(service: RunningService) -> None:
    await service.submit(document(service, "patched", Play(steps=6000, seconds=600)))
    await service.running("patched", step=1)
    too_late = {"resources": {"max_duration_minutes": 11}}
    status, answer = await service.call("PATCH", "/train/patched", too_late)
    assert (status, answer["error"]["code"]) == (409, "not_supported")
    assert "time limit of its Slurm job" in answer["detail"]
    assert "up to 10 would do" in answer["detail"]
    status, _ = await service.call("PATCH", "/train/patched", {"resources": {"max_duration_minutes": 0.02}})
    assert status == 202
    job = await service.ended("patched", 10)
    assert (job["status"], job["reason"]) == ("failed", "time_limit")


async def test_what_sbatch_refuses_is_a_rejected_job_that_says_what_there_is(service: RunningService) -> None:
    await service.submit(document(service, "odd", Play(), **{"extra_parameters.constraint": "nosuch"}))
    job = await service.ended("odd")
    assert (job["status"], job["reason"]) == ("failed", "rejected")
    end = (await service.events("odd"))[-1]
    assert "Invalid feature specification" in end["message"]
    assert "2 × 4 CPUs, 7 GiB, 2 GPUs" in end["data"]["explanation"]


async def test_where_slurm_is_not_installed_a_job_is_refused(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = document(service, "nowhere", Play())
    monkeypatch.setenv("PATH", "/nowhere")
    status, answer = await service.call("POST", "/train", asked)
    monkeypatch.undo()
    assert (status, [error["path"] for error in answer["errors"]]) == (400, ["backend"])
    assert "sbatch" in answer["errors"][0]["message"]


async def test_the_cluster_is_shown_among_the_backends(service: RunningService) -> None:
    [shown] = [row for row in (await service.get("/backends"))["backends"] if row["name"] == "slurm"]
    assert (shown["healthy"], shown["reason"], shown["capacity"]["free"]) == (True, None, None)
    assert shown["capacity"]["total"] == {"nodes": 2, "cpu": 8, "gpu": 4}
    assert {"nodes", "partition", "account", "qos", "constraint"} <= set(shown["options_schema"]["properties"])
    assert "multi_node" in shown["capabilities"]
