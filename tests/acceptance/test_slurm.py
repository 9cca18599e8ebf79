"""The real trainer through a real Slurm: one task, two nodes, and every way to end."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from service.revisions import put
from tests.server import Server
from tests.slurm_cluster import Cluster

pytestmark = pytest.mark.slow

Training = Callable[..., dict[str, Any]]


@pytest.fixture
def server(server: Server, slurm: Cluster) -> Server:
    server.settings |= {"SLURM_POLL_SECONDS": "0.3", "BACKEND": "slurm", "GRACE_SECONDS": "20"}
    return server.start()


def events(server: Server, job_id: str, kind: str) -> list[dict[str, Any]]:
    return [event["data"] for event in server.events(job_id) if event["type"] == f"job.{kind}"]


def losses(server: Server, job_id: str) -> dict[int, float]:
    return {data["step"]: data["loss"] for data in events(server, job_id, "progress")}


def steps(server: Server, job_id: str, attempt: int) -> list[int]:
    told = (e for e in server.events(job_id) if e["type"] == "job.progress" and e["attempt"] == attempt)
    return [event["data"]["step"] for event in told]


def reaches(server: Server, job_id: str, step: int) -> dict[str, Any]:
    late = time.monotonic() + 90
    while ((job := server.get(f"/train/{job_id}"))["progress"] or {}).get("step", 0) < step:
        assert job["status"] not in ("succeeded", "failed", "cancelled"), server.events(job_id)[-1]
        assert time.monotonic() < late, job
        time.sleep(0.05)
    return job


def succeeded(server: Server, job_id: str) -> dict[str, Any]:
    job = server.wait_end(job_id)
    assert job["status"] == "succeeded", (server.events(job_id)[-1], server.request("GET", f"/train/{job_id}/logs"))
    return job


def test_the_same_document_gives_the_same_losses_on_local_and_on_slurm(
    server: Server, training: Training, slurm: Cluster
) -> None:
    server.post(training("here", max_steps=8) | {"backend": "local"})
    server.post(training("there", max_steps=8))
    for job_id in ("here", "there"):
        succeeded(server, job_id)
    assert losses(server, "there") == losses(server, "here")
    assert list(losses(server, "there")) == list(range(1, 9))
    number = events(server, "there", "submitted")[0]["backend_job_id"]
    assert slurm.states()[number] == "COMPLETED"
    owner = json.loads((server.data_dir / "jobs/there/attempts/1.0/owner.json").read_text())
    assert owner["slurm_job_id"] == number


def test_two_tasks_on_two_nodes_train_as_two_processes_of_one_machine(
    server: Server, training: Training, slurm: Cluster
) -> None:
    both = put(training("nodes", max_steps=6), {"extra_parameters.nodes": 2})
    more = {"resources.cpus": 2, "resources.memory_gb": 2}
    alone = put(training("processes", max_steps=6), {"extra_parameters.processes": 2} | more)
    server.post(both)
    server.post(alone)
    job = reaches(server, "nodes", 1)
    assert slurm.call("squeue", "-h", "-j", job["backend_job_id"], "-o", "%D|%N").strip() == "2|n[1-2]"
    succeeded(server, "nodes")
    succeeded(server, "processes")
    assert losses(server, "nodes") == pytest.approx(losses(server, "processes"), rel=1e-5)


def test_a_job_stopped_on_local_goes_on_from_its_checkpoint_on_slurm(server: Server, training: Training) -> None:
    server.post(training("moves", max_steps=400) | {"backend": "local"})
    reaches(server, "moves", 3)
    server.request("POST", "/train/moves/cancel")
    assert server.wait_end("moves")["status"] == "cancelled"
    saved = server.get("/train/moves/checkpoints")["checkpoints"][-1]["step"]
    status, answer = server.request(
        "POST", "/train/moves/resume", {"backend": "slurm", "tuning_parameters": {"max_steps": saved + 4}}
    )
    assert status == 202, answer
    assert succeeded(server, "moves")["backend"] == "slurm"
    assert events(server, "moves", "queued")[-1]["resumed_from"] == saved
    assert steps(server, "moves", 2) == list(range(saved + 1, saved + 5))


def test_a_requeued_run_goes_on_from_its_checkpoint_as_the_next_attempt(
    server: Server, training: Training, slurm: Cluster
) -> None:
    server.post(put(training("again", max_steps=300, save_steps=5), {"extra_parameters.max_retries": 1}))
    job = reaches(server, "again", 7)
    number = job["backend_job_id"]
    slurm.call("scontrol", "requeue", number)
    slurm.until(lambda: events(server, "again", "retrying"), seconds=120)
    [retrying] = events(server, "again", "retrying")
    assert (retrying["reason"], retrying["resumed_from"] >= 5) == ("preempted", True)
    slurm.until(lambda: steps(server, "again", 2), seconds=240)
    folder = server.data_dir / "jobs/again"
    assert (folder / "attempt").read_text() == "1.1\n"
    server.request("POST", "/train/again/cancel")
    job = server.wait_end("again")
    assert (job["status"], job["attempt"], job["backend_job_id"]) == ("cancelled", 2, number)
    assert steps(server, "again", 2)[0] == retrying["resumed_from"] + 1
    assert sorted(path.name for path in folder.glob("secrets.*")) == []


def test_a_run_is_cancelled_by_us_by_others_and_by_its_deadline(
    server: Server, training: Training, slurm: Cluster
) -> None:
    for job_id in ("ours", "others"):
        server.post(training(job_id, max_steps=100_000))
    server.post(put(training("late", max_steps=100_000), {"resources.max_duration_minutes": 0.3}))
    reaches(server, "others", 2)
    slurm.call("scancel", server.get("/train/others")["backend_job_id"])
    reaches(server, "ours", 2)
    server.request("POST", "/train/ours/cancel")
    ended = {job_id: server.wait_end(job_id) for job_id in ("ours", "others", "late")}
    assert {job_id: (job["status"], job["reason"]) for job_id, job in ended.items()} == {
        "ours": ("cancelled", "cancelled"),
        "others": ("cancelled", "cancelled_outside"),
        "late": ("failed", "time_limit"),
    }
    stops = [server.get(f"/train/{job_id}/checkpoints")["checkpoints"] for job_id in ("ours", "others")]
    assert [found[-1]["kind"] for found in stops] == ["stop", "stop"]
    assert not slurm.call("squeue", "-h").strip()
