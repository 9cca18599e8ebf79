"""Memory that runs out where other processes wait: what is handed on, and what is said the second time."""

import json
import os

import pytest

from common.folder import JobFolder, Pair
from trainyard.trainer import again
from trainyard.trainer.claim import Claim
from trainyard.trainer.control import Control
from trainyard.trainer.failures import BeginAgain, OutOfMemory
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.text.at_once import AtOnce


def short(_rows):
    raise MemoryError("no more")


def test_the_first_time_all_begin_again_with_half_and_with_what_was_changed(attempt):
    changes = [{"step": 1, "values": {"x": 1}}]
    micro = AtOnce("micro_batch_size", 8, attempt.report, [], changes)
    with pytest.raises(BeginAgain) as e:
        micro.together(6, short, step=3)
    found = {"name": "micro_batch_size", "step": 3, "from": 6, "to": 3}
    assert e.value.handed == {"halved": [found], "changes": changes, "why": "no more"}

    anew = AtOnce("micro_batch_size", 8, attempt.report, e.value.handed["halved"], changes)
    anew.begun_again(e.value.handed, at=2)
    (said,) = attempt.data("log")
    assert "with micro_batch_size 6: it is 3 from here on" in said["message"] and "from step 2" in said["message"]
    assert anew.rows == 3 and anew.together(6, lambda rows: rows, step=4) == 3
    with pytest.raises(OutOfMemory, match=r"micro_batch_size 3, halved from 6 already.*gradient_checkpointing") as e:
        anew.together(6, short, step=4)
    assert not isinstance(e.value, BeginAgain)


def test_rows_of_an_evaluation_are_halved_apart_and_one_row_is_the_end(attempt):
    halved = [{"name": "micro_batch_size", "step": 3, "from": 6, "to": 3}]
    rows = AtOnce("rows evaluated at once", 4, attempt.report, halved)
    rows.begun_again({"halved": halved, "why": "x"}, at=2)
    assert attempt.data("log") == [], "it was not for these"
    with pytest.raises(BeginAgain) as e:
        rows.together(4, short, step=0)
    assert [h["name"] for h in e.value.handed["halved"]] == ["micro_batch_size", "rows evaluated at once"]
    with pytest.raises(OutOfMemory, match="rows evaluated at once 1:"):
        AtOnce("rows evaluated at once", 1, attempt.report, []).together(4, short, step=0)


def test_what_is_no_lack_of_memory_stays_what_it_is(attempt):
    def wrong(_rows):
        raise KeyError("x")

    with pytest.raises(KeyError):
        AtOnce("micro_batch_size", 8, attempt.report, []).together(8, wrong, step=0)


def test_the_launcher_takes_its_own_place_and_hands_on(attempt, monkeypatch):
    claim = Claim(attempt.folder, "5e" * 16, attempt.pair, attempt.own)
    assert again.handed_on(claim) == {} and not again.asked(claim) and not again.asked(None)
    (attempt.own / "ranks").mkdir()
    again.ask(claim, {"halved": [1]})
    assert again.asked(claim)
    begun = []
    monkeypatch.setattr(os, "execv", lambda *program: begun.append(program))
    again.begin(claim)
    assert len(begun) == 1 and not again.asked(claim) and again.handed_on(claim) == {"halved": [1]}
    assert not (attempt.own / "ranks").exists(), "the processes that come find nothing of those before"
    assert (attempt.own / "ranks.0").is_dir()


def test_a_command_that_was_answered_is_not_taken_again(tmp_path):
    folder, pair = JobFolder(tmp_path / "job"), Pair(1)
    own = folder.attempt(pair)
    own.mkdir(parents=True)
    folder.control.write_text(json.dumps({"format": 1, "attempt": "1.0", "id": "c1", "command": "stop"}) + "\n")
    for heard in ("stop", None):
        control = Control(folder.control, pair, Reporter(own, lambda: None))
        control.poll()
        assert control.stop == heard
