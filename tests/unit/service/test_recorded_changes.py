"""What was changed of a job: what its next run repeats, and what is only kept for the record."""

import json

from common.backend import JobSpec
from common.folder import JobFolder
from common.job import Job, Wish
from service.requeues import _renew_spec
from service.revisions import for_run, recorded
from service.specs import write_spec
from service.store.base import JobRecord

RATE, SAVED, LONG = "tuning_parameters.learning_rate", "tuning_parameters.save_steps", "resources.max_duration_minutes"


def entry(step, resume=False, **values):
    names = {"rate": RATE, "saved": SAVED, "long": LONG, "backend": "backend"}
    named = {names[name]: value for name, value in values.items()}
    return {"id": "c", "step": step, "values": named} | ({"resume": True} if resume else {})


def test_what_a_resume_gave_is_recorded_with_its_step_and_not_repeated():
    changes = [entry(10, saved=5), entry(20, resume=True, rate=0.5, long=60, backend="elsewhere")]
    assert for_run(changes) == [{"step": 10, "values": {SAVED: 5}}]
    assert recorded(changes) == [{"step": 20, "values": {RATE: 0.5, LONG: 60, "backend": "elsewhere"}}]


def test_what_held_until_it_was_given_anew_stays_in_the_record():
    changes = [entry(10, rate=0.1, saved=5), entry(20, resume=True, rate=0.5)]
    assert for_run(changes) == [{"step": 10, "values": {SAVED: 5}}]
    assert recorded(changes) == [{"step": 10, "values": {RATE: 0.1}}, {"step": 20, "values": {RATE: 0.5}}]


def test_what_never_held_is_not_recorded():
    changes = [entry(30, rate=0.1), entry(20, resume=True, rate=0.2), entry(20, resume=True, rate=0.3)]
    assert recorded(changes) == [{"step": 20, "values": {RATE: 0.3}}]
    assert recorded([entry(None, rate=0.1, long=7)]) == []


def test_a_deadline_is_the_guards_and_recorded():
    changes = [entry(10, long=60), entry(10, rate=0.1)]
    assert for_run(changes) == [{"step": 10, "values": {RATE: 0.1}}]
    assert recorded(changes) == [{"step": 10, "values": {LONG: 60}}]


def test_nothing_is_both_repeated_and_recorded():
    changes = [entry(5, rate=0.1, long=9), entry(8, rate=0.2), entry(6, rate=0.3), entry(9, resume=True, saved=2)]
    both = [
        {(e["step"], path) for e in found for path in e["values"]} for found in (for_run(changes), recorded(changes))
    ]
    assert both == [{(5, RATE), (6, RATE)}, {(5, LONG), (9, SAVED)}]


def renewed(folder, *changes):
    """What is in the spec of a run that its backend begins again."""
    record = JobRecord(
        job=Job(uid="u", job_id="a", backend="local"),
        seq=1,
        version=1,
        wanted=Wish.RUN,
        detail=None,
        handle=None,
        not_before=None,
        lane="",
        warnings="[]",
        hooks={},
        spec=write_spec(JobSpec(engine="text", deadline_minutes=30)),
        changes=json.dumps(changes),
    )
    _renew_spec(folder, record)
    return json.loads(folder.spec.read_text())


def test_a_run_that_its_backend_begins_again_finds_the_record_in_its_spec(tmp_path):
    folder = JobFolder(tmp_path / "job")
    folder.make({"changes": [], "deadline_minutes": 30}, 1, None)
    known = renewed(folder, entry(10, long=60), entry(12, rate=0.1))
    assert known["recorded"] == [{"step": 10, "values": {LONG: 60}}]
    assert (known["changes"], known["deadline_minutes"]) == ([{"step": 12, "values": {RATE: 0.1}}], 60)


def test_what_a_later_change_of_an_earlier_step_replaced_is_in_the_record_of_no_run_begun_again(tmp_path):
    given, earlier = entry(10, resume=True, rate=0.5), entry(5, rate=0.1)
    folder = JobFolder(tmp_path / "job")
    folder.make({"recorded": recorded([given]), "changes": [], "deadline_minutes": 30, "threads": 2}, 1, None)
    known = renewed(folder, given, earlier)  # it went on from a checkpoint of step 4, where it heard of the other
    assert known == {
        "format": 1,
        "changes": [{"step": 5, "values": {RATE: 0.1}}],
        "deadline_minutes": 30,
        "threads": 2,
    }
