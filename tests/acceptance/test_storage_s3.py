"""A document whose data, results and logs lie in S3 (moto's server), through the real service, and a kill of it."""

import json
import time

import pytest

pytestmark = pytest.mark.slow

ROLE = "arn:aws:iam::123456789012:role/user-7"
PROJECT = "users/7/projects/p"


@pytest.fixture
def document(training, s3, tmp_path):
    found = training("remote", max_steps=40, save_steps=20)
    rows = s3.put(f"{PROJECT}/ingestion/rows.jsonl", (tmp_path / "rows.jsonl").read_bytes())
    keys = {"aws_access_key_id": "AKIAVERYSECRET", "aws_secret_access_key": "s3cr3t-s3cr3t"}
    found["datasets"] = [{"source": rows, "format": "jsonl", "auth": {"role_arn": ROLE, **keys}}]
    found["artifacts"] = {
        "log_uri": s3.uri(f"{PROJECT}/logs/"),
        "output_uri": s3.uri(f"{PROJECT}/results/"),
        "auth": keys,
    }
    return found


def test_everything_lies_in_the_bucket_and_a_killed_service_completes_it(server, document, s3):
    server.start()
    server.post(document)
    until = time.monotonic() + 120
    while not (server.get("/train/remote")["progress"] or {}).get("step"):
        assert time.monotonic() < until, server.events("remote")[-1]
        time.sleep(0.1)
    server.kill()
    time.sleep(3)
    server.start()
    job = server.wait_end("remote", seconds=180)
    assert job["status"] == "succeeded", server.events("remote")[-1]
    events = server.events("remote")
    results = s3.uri(f"{PROJECT}/results/remote")
    assert events[-1]["data"]["final_uri"] == f"{results}/final"
    assert [c["uri"] for c in server.get("/train/remote/checkpoints")["checkpoints"]] == [
        f"{results}/checkpoints/step-{n}" for n in (20, 40)
    ]
    assert f"{PROJECT}/results/remote/final/adapter_model.safetensors" in s3.objects(PROJECT)
    logs = f"{PROJECT}/logs/remote"
    until = time.monotonic() + 60
    while "job.succeeded" not in s3.get(f"{logs}/events.jsonl").decode():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert [json.loads(line) for line in s3.get(f"{logs}/events.jsonl").decode().splitlines()] == events
    assert len(s3.get(f"{logs}/metrics.jsonl").decode().splitlines()) == 40
    log = s3.get(f"{logs}/train.log").decode()
    assert "done: " in log and "s3cr3t-s3cr3t" not in log and "AKIAVERYSECRET" not in log
    assert len(list((server.data_dir / "cache" / "files").iterdir())) == 1
