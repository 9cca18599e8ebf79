"""A real run that was begun on one backend and goes on with another: from its checkpoint, to the same losses."""

import pytest

from tests import elsewhere
from tests.acceptance.test_local_training import wait_for_step
from tests.acceptance.test_pause_and_resume import losses, wait_for

pytestmark = pytest.mark.slow


def test_a_job_stopped_here_goes_on_elsewhere_to_the_losses_of_the_undisturbed_run(
    server, training, slowly, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(elsewhere.install(tmp_path / "site")))
    slowly("moved")
    server.settings["LOCAL_CPU_JOBS"] = "2"
    server.start()
    server.post(training("whole", max_steps=40, lr_scheduler="cosine"))
    server.post(training("moved", max_steps=40, lr_scheduler="cosine"))
    wait_for_step(server, "moved", 5)
    assert server.request("POST", "/train/moved/pause")[0] == 202
    wait_for(server, "moved", lambda job: job["phase"] == "paused")
    step = server.events("moved")[-1]["data"]["step"]
    assert 5 <= step < 40
    assert server.request("POST", "/train/moved/resume", {"backend": elsewhere.NAME})[0] == 202
    job = server.wait_end("moved")
    assert (job["status"], job["backend"], job["attempt"]) == ("succeeded", elsewhere.NAME, 2)
    (queued,) = [e for e in server.events("moved") if e["type"] == "job.queued"][1:]
    assert queued["data"] == {"resumed_from": step, "changes": {"backend": elsewhere.NAME}}
    assert server.wait_end("whole")["status"] == "succeeded"
    assert losses(server, "moved") == losses(server, "whole")
    assert len(losses(server, "moved")) == 40
    first, again = (server.data_dir / name / "moved" / "attempts" for name in ("jobs", elsewhere.NAME))
    assert ([path.name for path in first.iterdir()], [path.name for path in again.iterdir()]) == (["1.0"], ["2.0"])
    _, log = server.request("GET", "/train/moved/logs")
    assert [log.count(f"── attempt {n}.0") for n in (1, 2)] == [1, 1]
    again_from = [c["attempt"] for c in server.get("/train/moved/checkpoints")["checkpoints"]]
    assert again_from == sorted(again_from)
    assert set(again_from) == {1, 2}
