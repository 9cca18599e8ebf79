"""Events are lines, counted from 1, and told only by who may still write."""

import math
import threading

import pytest

from common.folder import Pair
from trainyard.trainer import claim
from trainyard.trainer.failures import DiskFull, Fenced, RunEnded
from trainyard.trainer.reporting import EVENT_BYTES, Reporter


def test_events_are_counted_from_one(attempt):
    attempt.report.phase("preparing")
    attempt.report.event("progress", {"step": 1})
    attempt.report.end(1, "/out/final")
    events = attempt.events()
    assert [e["n"] for e in events] == [1, 2, 3]
    assert [e["type"] for e in events] == ["phase", "progress", "end"]
    assert all(e["format"] == 1 and e["at"].endswith("Z") for e in events)
    assert events[-1]["data"] == {"step": 1, "final_uri": "/out/final"}


def test_a_phase_is_told_once(attempt):
    for phase in ("training", "training", "evaluating", "training"):
        attempt.report.phase(phase)
    assert [d["phase"] for d in attempt.data("phase")] == ["training", "evaluating", "training"]


def test_the_next_process_of_an_attempt_counts_on(attempt):
    attempt.report.phase("preparing")
    attempt.report.log("one")
    with (attempt.own / "events.jsonl").open("ab") as file:
        file.write(b'{"format": 1, "n": 3, "ty')
    again = Reporter(attempt.own, attempt.fence.check)
    again.phase("preparing")
    again.phase("training")
    assert [(e["n"], e["type"]) for e in attempt.events()] == [(1, "phase"), (2, "log"), (3, "phase")]


def test_of_several_processes_only_the_first_tells(attempt):
    second = Reporter(attempt.own, attempt.fence.check, silent=True)
    second.phase("training")
    second.log("I am here")
    second.ack("c1", True)
    second.end(3)
    assert attempt.events() == []


def test_a_replaced_run_tells_nothing(attempt):
    attempt.report.phase("training")
    attempt.folder.raise_fence(Pair(3, 0))
    with pytest.raises(Fenced, match=r"attempt 3\.0 took over from 2\.1"):
        attempt.report.event("progress", {"step": 1})
    assert len(attempt.events()) == 1


def test_an_older_fence_holds_nobody_up(attempt):
    attempt.folder.path.joinpath("attempt").write_text("2.0\n")
    attempt.report.phase("training")
    attempt.folder.path.joinpath("attempt").unlink()
    attempt.report.phase("evaluating")
    assert len(attempt.events()) == 2


def test_a_fence_that_can_not_be_read_is_read_again_then_ends_the_run(attempt, monkeypatch):
    fence = attempt.folder.path / "attempt"
    fence.write_bytes(bytes(8))
    late = threading.Timer(0.1, fence.write_text, ["2.1\n"])
    with monkeypatch.context() as patched:
        patched.setattr(claim, "_PAUSES", (0.05,) * 400)
        late.start()
        attempt.report.phase("training")
    late.join()
    fence.write_bytes(b"")
    with pytest.raises(RunEnded, match="attempt can't be read"):
        attempt.report.phase("evaluating")


def test_what_is_no_number_is_null(attempt):
    attempt.report.event("progress", {"step": 1, "loss": math.nan, "more": [math.inf, {"x": -math.inf}]})
    assert attempt.data("progress") == [{"step": 1, "loss": None, "more": [None, {"x": None}]}]


def test_secrets_are_masked_also_where_json_escapes_them(attempt):
    attempt.report.mask = lambda text: text.replace('pa"ss', "••••")
    attempt.report.event("log", {"message": 'the word is pa"ss'})
    assert attempt.data("log") == [{"message": "the word is ••••"}]


def test_an_event_has_no_endless_text(attempt):
    attempt.report.event("log", {"message": "x" * 1_000_000})
    attempt.report.event("log", {"parts": ["y" * 7_000] * 20})
    lines = (attempt.own / "events.jsonl").read_bytes().splitlines()
    assert all(len(line) < EVENT_BYTES for line in lines)
    assert attempt.data("log")[1]["truncated"] is True


def test_a_run_that_talks_too_much_is_counted(attempt):
    for i in range(100):
        attempt.report.log(f"line {i}")
    assert 20 <= len(attempt.data("log")) <= 40


def test_no_room_for_an_event_is_a_full_disk(full_disk):
    with pytest.raises(DiskFull, match="could not be written"):
        full_disk.report.phase("training")
