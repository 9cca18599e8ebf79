"""What callers are told of a Slurm cluster, through the service."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

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


@contextmanager
def lost_nodes(slurm: Cluster) -> Iterator[None]:
    slurm.lose_nodes()
    yield
    slurm.bring_nodes_back()


@contextmanager
def preempted(slurm: Cluster) -> Iterator[None]:
    """A job of higher priority wants all that there is, for a moment."""
    slurm.call("scontrol", "create", "partitionname=urgent", "nodes=n1,n2", "prioritytier=9")
    try:
        slurm.call("sbatch", "-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
        yield
    finally:
        slurm.until(lambda: not slurm.call("squeue", "-h", "-p", "urgent"))
        slurm.call("scontrol", "delete", "partitionname=urgent")


@pytest.mark.parametrize(
    ("strike", "state", "reason"),
    [(lost_nodes, "NODE_FAIL", "node_failure"), (preempted, "PREEMPTED", "preempted")],
)
async def test_a_job_that_loses_its_place_is_handed_over_again(
    service: RunningService,
    slurm: Cluster,
    strike: Callable[[Cluster], AbstractContextManager[None]],
    state: str,
    reason: str,
) -> None:
    again = {"extra_parameters.max_retries": 1}
    await service.submit(document(service, "moved", Play(steps=6000, seconds=600), **again))
    first = (await service.running("moved", step=2))["backend_job_id"]
    with strike(slurm):
        await service.until("moved", "at its next attempt", lambda job: job["attempt"] == 2)
    job = await service.until("moved", "running", lambda job: job["status"] == "running" and job["attempt"] == 2)
    assert slurm.states()[first] == state
    assert job["backend_job_id"] != first
    types = await service.types("moved")
    assert (types.count("submitted"), types.count("retrying"), types.count("running")) == (2, 1, 2)
    [retrying] = [e["data"] for e in await service.events("moved") if e["type"] == "job.retrying"]
    assert retrying["reason"] == reason


SBATCH = """#!/bin/sh
echo + >>'{folder}/calls'
until [ "$(grep -c + '{folder}/calls')" -ge {most} ]; do sleep 0.05; done
sleep 0.2
{sbatch} "$@"
code=$?
echo - >>'{folder}/calls'
exit $code
"""


async def test_no_more_submissions_are_under_way_than_the_setting_says(
    service: RunningService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most, jobs = 2, 5
    (wrapper := tmp_path / "bin" / "sbatch").parent.mkdir()
    wrapper.write_text(SBATCH.format(folder=tmp_path, most=most, sbatch=shutil.which("sbatch")))
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(wrapper.parent), prepend=":")
    service.settings = evolve(service.settings, submit_concurrency=most, slurm_calls=jobs)
    await service.restart()
    for n in range(jobs):
        await service.submit(document(service, f"job-{n}", Play(steps=1, seconds=0)))
    for n in range(jobs):
        assert (await service.ended(f"job-{n}", 10))["status"] == "succeeded"
    calls = (tmp_path / "calls").read_text().split()
    under_way = [calls[:n].count("+") - calls[:n].count("-") for n in range(len(calls) + 1)]
    assert (calls.count("+"), max(under_way)) == (jobs, most), under_way


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
