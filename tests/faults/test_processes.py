"""Two real workers of torch under a real guard: cancelled, killed; nothing of them is left."""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import trainyard
from tests.faults.conftest import Guarded
from tests.tiny import PLAIN_TEXTS, make_tiny_llama
from trainyard.trainer.checkpoints import complete

pytestmark = pytest.mark.slow
ROOT = Path(trainyard.__file__).parents[1]


class Pair:
    """A long job of two processes."""

    def __init__(self, guarded: Guarded, folder: Path) -> None:
        self.guarded, self.output = guarded, folder / "out"
        data = folder / "data.jsonl"
        data.write_text("".join(json.dumps({"text": text}) + "\n" for text in PLAIN_TEXTS))
        request = {
            "base_model": {"provider": "custom", "model_name": str(make_tiny_llama(folder / "tiny"))},
            "customization": {"method": "lora", "precision": "fp32", "rank": 4},
            "datasets": [{"source": str(data), "format": "jsonl"}],
            "tuning_parameters": {"max_steps": 100_000, "logging_steps": 1},
        }
        guarded.spec(
            engine="text", request=request, output=str(self.output), options={"processes": 2}, changes=[], threads=2
        )
        environ = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        program = (sys.executable, "-P", "-m", "trainyard.trainer", str(guarded.job))
        self.process = guarded.start(*program, options=("--grace", "30"), **environ)

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self.guarded.folder() / "events.jsonl"
        text = path.read_text() if path.exists() else ""
        events = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        assert [event["n"] for event in events] == list(range(1, len(events) + 1)), "numbered without a hole"
        return [event["data"] for event in events if event["type"] == kind]

    def trains(self) -> None:
        late = time.monotonic() + 180
        while len(self.events("progress")) < 3:
            assert self.process.poll() is None and time.monotonic() < late, self.guarded.log()
            time.sleep(0.05)

    def command(self, **record: Any) -> None:
        with (self.guarded.job / "control.jsonl").open("a") as file:
            file.write(json.dumps({"format": 1, "attempt": "1.0"} | record) + "\n")

    def rank(self, number: int) -> int:
        return int((self.guarded.folder() / "ranks" / f"{number}.pid").read_text())


@pytest.fixture
def pair(guarded: Guarded, tmp_path: Path) -> Pair:
    return Pair(guarded, tmp_path)


def test_a_cancel_of_two_workers_keeps_a_checkpoint_and_leaves_no_process(pair: Pair) -> None:
    pair.trains()
    assert len(pair.guarded.alive()) >= 3, "the launcher and two workers"
    pair.command(id="c1", command="checkpoint")
    pair.guarded.until(lambda: pair.events("ack"))
    pair.process.terminate()
    assert pair.guarded.code() == 75, pair.guarded.log()
    assert pair.guarded.exit()["code"] == 75
    assert pair.guarded.alive() == []
    asked, kept = pair.events("checkpoint")
    assert (asked["kind"], kept["kind"]) == ("step", "stop")
    assert complete(Path(asked["uri"])) and complete(Path(kept["uri"]))
    assert pair.events("ack") == [{"id": "c1", "ok": True, "message": f"checkpoint at step {asked['step']}"}]
    assert [end["step"] for end in pair.events("end")] == [kept["step"]]
    assert "killed" not in pair.guarded.log()


def test_a_stop_before_the_processes_train_leaves_without_a_checkpoint_and_no_process(pair: Pair) -> None:
    pair.guarded.until(lambda: list((pair.guarded.folder() / "ranks").glob("*.pid")))
    pair.command(id="c1", command="stop", why="cancel")
    assert pair.guarded.code() == 76, pair.guarded.log()
    assert pair.guarded.alive() == []
    assert pair.events("checkpoint") == [] and len(pair.events("end")) == 1
    assert "stop: cancel" in pair.guarded.log()


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_worker_ends_the_run_as_killed_and_leaves_no_process(pair: Pair, number: int) -> None:
    pair.trains()
    began = time.monotonic()
    os.kill(pair.rank(number), signal.SIGKILL)
    assert pair.guarded.code() == 128 + 9, pair.guarded.log()
    assert time.monotonic() - began < 25
    assert (pair.guarded.exit()["code"], pair.guarded.exit()["signal"]) == (None, 9)
    assert pair.guarded.alive() == []
    assert f"process {number}: ended by SIGKILL" in pair.guarded.log()
    (told,) = [data["message"] for data in pair.events("log") if data.get("level") == "error"]
    assert told == f"process {number}: ended by SIGKILL"
    assert len(pair.events("end")) == 1
