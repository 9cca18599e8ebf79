"""The checker sees a run that goes on from another step than was told, and a checkpoint told twice or never."""

import json
from types import SimpleNamespace

import pytest

from tests.chaos.acts import STEPS
from tests.chaos.check import _curve, _told
from tests.chaos.scene import Subject
from tests.chaos.test_chaos import curve, event

WHOLE = {step: 1 / step for step in range(1, STEPS + 1)}


def saved(step, attempt=1, kind="step"):
    return event(1, "checkpoint", attempt) | {"data": {"step": step, "kind": kind}}


@pytest.mark.parametrize(("resumed", "problems"), [(30, 0), (25, 1), (35, 1), (None, 1)])
def test_a_run_begins_at_the_step_behind_the_one_that_it_was_said_to_go_on_from(resumed, problems):
    before, after = curve(dict(list(WHOLE.items())[:33])), curve(dict(list(WHOLE.items())[30:]), attempt=2)
    told = [*before, event(34, "retrying", 2, resumed_from=resumed), *after]
    assert len(list(_curve(told, curve(WHOLE)))) == problems


@pytest.mark.parametrize(("stored", "problems"), [([5, 10], 0), ([5, 10, 15], 0), ([5], 1), ([5, 10, 15, 20], 1)])
def test_the_service_tells_what_a_run_told_and_at_most_the_one_that_it_could_not(tmp_path, stored, problems):
    subject = Subject(SimpleNamespace(server=SimpleNamespace(data_dir=tmp_path), folder=tmp_path), "a")
    own = subject.folder.path / "attempts" / "1.0"
    own.mkdir(parents=True)
    lines = [{"n": n, "type": "checkpoint", "data": {"step": step}} for n, step in enumerate((5, 10), 1)]
    (own / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    events = [saved(step) for step in stored]
    assert len(list(_told(events, subject))) == problems
    for kind, more in (("step", 1), ("best", 0)):  # the best is told again
        assert len(list(_told([*events, saved(5, 2, kind)], subject))) == problems + more
