"""The pictures of a run, as its `events.jsonl` tells them, are stored, and served as pages and as a stream."""

import json

import pytest

from common.folder import JobFolder, Pair
from tests.integration.service.own_runs import OwnRun
from tests.integration.service.test_events import read_stream
from trainyard.trainer.claim import Fence
from trainyard.trainer.reporting import Reporter

SHOT = {
    "step": 12,
    "why": "step",
    "name": "night bench",
    "prompt": "night bench shot",
    "seed": 5,
    "resolution": [1024, 768],
    "sampling_steps": 20,
}
PREVIEW = SHOT | {
    "path": "validation/step-12/previews/night_bench-1024x768-1-5.png",
    "uri": "/out/validation/step-12/previews/night_bench-1024x768-1-5.png",
    "kind": "preview",
    "sampling_step": 5,
    "timestep": 563.0,
}
PICTURE = SHOT | {
    "path": "validation/step-12/night_bench-1024x768-1.png",
    "uri": "/out/validation/step-12/night_bench-1024x768-1.png",
    "kind": "picture",
    "seconds": 3.2,
}


@pytest.fixture
def told(tmp_path):
    """A file of events as our trainer writes them."""
    folder, pair = JobFolder(tmp_path / "made"), Pair(1, 0)
    folder.attempt(pair).mkdir(parents=True)
    folder.raise_fence(pair)
    report = Reporter(folder.attempt(pair), Fence(folder, pair).check)
    report.phase("evaluating")
    report.event("validation", PREVIEW)
    report.event("validation", PICTURE)
    return folder.attempt(pair) / "events.jsonl"


async def test_validation_events_of_a_run_are_served_as_pages_and_as_a_stream(client, parts, tmp_path, told):
    run = OwnRun(client, parts.settings.jobs_dir, tmp_path)
    program = f"cat '{told}' > \"$TRAINYARD_ATTEMPT_DIR/events.jsonl\""
    assert (await client.post("/train", json=run.document(program))).status == 201
    assert (await run.until(lambda job: job["ended_at"]))["status"] == "succeeded"

    stored = await run.events("validation")
    assert [without_time(event["data"]) for event in stored] == [PREVIEW, PICTURE]
    assert {(event["status"], event["phase"]) for event in stored} == {("running", "evaluating")}
    assert all("step 12" in event["message"] for event in stored)

    stream = await read_stream(client, f"{run.path}/events")
    served = [json.loads(message["data"]) for message in stream if message["event"] == "job.validation"]
    assert served == stored
    assert [int(m["id"]) for m in stream if m["event"] == "job.validation"] == [event["id"] for event in stored]


def without_time(data):
    """An event keeps the source's own time in its data."""
    assert data["at"].endswith("Z")
    return {name: value for name, value in data.items() if name != "at"}
