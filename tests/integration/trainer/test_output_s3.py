"""Whole runs whose data, model and results lie in S3 (moto's server)."""

import json
import shutil
import signal
from urllib.parse import urlsplit

import pytest

from tests.s3 import Gate

pytestmark = pytest.mark.slow

RESULTS = "users/7/projects/p/results/job-1"


@pytest.fixture
def remote(job, s3, tiny_model):
    """The job with everything in the bucket."""
    for path in tiny_model.iterdir():
        s3.put(f"models/tiny/{path.name}", path.read_bytes())
    job.base["model_name"] = s3.uri("models/tiny/")
    job.datasets = [{"source": s3.put("ingestion/rows.jsonl", job.data.read_bytes()), "format": "jsonl"}]
    job.data.unlink()
    job.output = s3.uri(RESULTS)
    job.options = {"cache_dir": str(job.folder / "cache"), "spare_bytes": 0}
    job.tuning |= {"save_steps": 2, "save_total_limit": 2}
    return job


def names(s3):
    return [key.removeprefix(f"{RESULTS}/") for key in s3.objects(f"{RESULTS}/")]


def steps(s3):
    return [n.split("/")[1] for n in names(s3) if n.startswith("checkpoints/") and n.endswith("/checkpoint.json")]


def test_a_run_of_objects_leaves_its_results_as_objects(remote, s3):
    assert remote.run() == 0, remote.log
    assert steps(s3) == ["step-4", "step-6"]
    assert {"final/adapter_model.safetensors", "final/tokenizer.json", "final/README.md"} < set(names(s3))
    assert any(name.startswith("tensorboard/") for name in names(s3))
    manifest = json.loads(s3.get(f"{RESULTS}/manifest.json"))
    assert manifest["final"] == s3.uri(f"{RESULTS}/final") and manifest["uid"] == "5e" * 16
    told = remote.events("checkpoint")
    assert [data["step"] for data in told] in ([2, 4, 6], [4, 6]), "each that came there; one that waits makes way"
    assert [data["uri"] for data in told] == [s3.uri(f"{RESULTS}/checkpoints/step-{data['step']}") for data in told]
    assert told[-1]["kept"] == [4, 6]
    assert remote.events("end") == [{"step": 6, "final_uri": s3.uri(f"{RESULTS}/final")}]
    assert [data["phase"] for data in remote.events("phase")][1] == "downloading"
    assert not (remote.folder / "output").exists()


def test_a_stopped_run_goes_on_on_another_machine_from_the_remote_checkpoint(remote, s3):
    remote.tuning |= {"max_steps": 400, "save_steps": 1000}
    child = remote.start()
    remote.wait("progress", child, lambda data: data["step"] >= 5)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=200) == 75, remote.log
    (stopped,) = steps(s3)
    (curve,) = [name for name in names(s3) if name.startswith("tensorboard/")]
    shutil.rmtree(remote.folder / "output")
    remote.tuning["max_steps"] = int(stopped.removeprefix("step-")) + 2
    assert remote.run("2.0") == 0, remote.log
    assert min(remote.losses("2.0")) == int(stopped.removeprefix("step-")) + 1
    assert "manifest.json" in names(s3)
    curves = [name for name in names(s3) if name.startswith("tensorboard/")]
    assert len(curves) == 2 and curve in curves, "that of the other machine stays"


def test_the_results_of_another_job_are_left_alone(remote, s3):
    s3.put(f"{RESULTS}/manifest.json", json.dumps({"uid": "another"}).encode())
    assert remote.run() == 64
    assert "artifacts.output_uri: s3://" in remote.log and "of another job" in remote.log
    assert names(s3) == ["manifest.json"]


def test_results_that_can_not_be_stored_are_kept_here_and_stored_by_the_next_run(remote, s3, monkeypatch):
    gate = Gate(urlsplit(s3.url).port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    try:
        remote.tuning["max_steps"] = 200
        child = remote.start()
        remote.wait("progress", child, lambda data: data["step"] >= 3)
        s3.only_known_callers(0)
        assert child.wait(timeout=200) == 69, remote.log
        assert "artifacts.output_uri" in remote.log and "nothing is lost: all of it is in " in remote.log
        kept = (remote.folder / "output" / "checkpoints").glob("step-*/checkpoint.json")
        remote.tuning["max_steps"] = max(int(path.parent.name.removeprefix("step-")) for path in kept) + 2
        s3.only_known_callers(None)
        assert remote.run("2.0") == 0, remote.log
        assert min(remote.losses("2.0")) > 3 and "manifest.json" in names(s3)
    finally:
        s3.only_known_callers(None)
        gate.close()


def test_secrets_of_a_source_are_used_and_never_told(remote, s3):
    auth = {"aws_region": "us-east-1"}
    remote.datasets[0]["auth"] = auth
    keys = {"aws_access_key_id": "AKIAVERYSECRET", "aws_secret_access_key": "s3cr3t-s3cr3t"}
    remote.secrets = {"values": {f"datasets[0].auth.{name}": value for name, value in keys.items()}}
    s3.only_known_callers(0)
    try:
        assert remote.run() == 69
    finally:
        s3.only_known_callers(None)
    shown = remote.log + json.dumps(remote.events())
    assert "AKIAVERYSECRET" not in shown and "s3cr3t-s3cr3t" not in shown


def test_of_two_processes_one_copies(remote, s3):
    remote.options["processes"] = 2
    before = s3.asked("GET", "ingestion/rows.jsonl")
    assert remote.run() == 0, remote.log
    assert steps(s3) == ["step-4", "step-6"] and "manifest.json" in names(s3)
    assert s3.asked("GET", "ingestion/rows.jsonl") == before + 1
