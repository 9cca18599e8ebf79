"""Two nodes of a real Slurm end together: asked to, and when one of the processes is killed."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from common.folder import STACKS
from service.revisions import put
from tests.server import Server
from tests.slurm_cluster import Cluster
from trainyard.guard_processes import environment, name, processes_of

pytestmark = pytest.mark.slow


def test_two_nodes_end_as_the_first_process_does(
    server: Server, training: Callable[..., dict[str, Any]], slurm: Cluster
) -> None:
    server.settings |= {"SLURM_POLL_SECONDS": "0.3", "BACKEND": "slurm", "GRACE_SECONDS": "30"}
    server.start()
    secret = {"extra_parameters.nodes": 2, "extra_parameters.env": {"SITE_TOKEN": "st_hidden"}}
    for job_id in ("asked", "killed"):
        server.post(put(training(job_id, max_steps=100_000), secret))
    for job_id in ("asked", "killed"):
        slurm.until(lambda job_id=job_id: (server.get(f"/train/{job_id}")["progress"] or {}).get("step", 0) > 1, 240)
    server.request("POST", "/train/asked/cancel")
    ranks, said = server.data_dir / "jobs/killed/attempts/1.0/ranks", server.data_dir / "jobs/killed/train.log"
    (ranks / STACKS).touch()
    slurm.until(lambda: "most recent call first" in said.read_text(), 120)
    rank = (ranks / "1.pid").read_text()
    began = processes_of(f"{server.get('/train/killed')['uid']}.1.0")
    sruns = [environment(pid) for pid in began if name(pid) == "srun"]
    assert sruns
    assert [b"SITE_TOKEN=st_hidden" in known for known in (environment(int(rank)), *sruns)] == [
        True,
        *[False] * len(sruns),
    ]
    os.kill(int(rank), signal.SIGKILL)
    asked, killed = server.wait_end("asked"), server.wait_end("killed")
    assert (asked["status"], server.get("/train/asked/checkpoints")["checkpoints"][-1]["kind"]) == ("cancelled", "stop")
    end = server.events("killed")[-1]["data"]
    assert (killed["reason"], end["signal"]) == ("killed", signal.SIGKILL)
    assert "process 1: ended by SIGKILL" in server.request("GET", "/train/killed/logs")[1]
    for job in (asked, killed):
        assert processes_of(f"{job['uid']}.1.0") == []
