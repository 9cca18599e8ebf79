"""What a run finds in the bucket of its results, and tells of it (moto's server)."""

import shutil

import pytest

from common.access import Auth
from common.folder import Pair
from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.run import Run
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.output import copied
from trainyard.trainer.sources.remote import Remote
from trainyard.trainer.sources.upload import Uploader

UID = "5e" * 16


class Later:
    """A run whose bucket has the checkpoints 4 and 8 of the run 1.0, which was killed; so has this machine."""

    def __init__(self, s3, attempt):
        self.attempt, self.uri, self.output = attempt, s3.uri("results/job-1"), attempt.folder.path / "output"
        values = {"job_id": "job-1", "engine": "text", "request": {}, "devices": (), "threads": 1, "changes": ()}
        spec = Spec(uid=UID, output=self.output, remote=self.uri, options={}, **values)
        claim = Claim(attempt.folder, UID, attempt.pair, attempt.own)
        self.run = Run(claim, attempt.fence, attempt.report, attempt.control, Secrets(), spec)
        before = Checkpoints(self.output, UID, Pair(1), lambda: None, 0)
        before.claim()
        for step in (4, 8):
            uploader = Uploader(Remote.open(self.uri, Auth(at="artifacts.auth")), self.output, lambda: None)
            uploader.checkpoint(
                before.save(step, 0, lambda folder: {"words": (folder / "w").write_bytes(b"12345")}).path
            )
            uploader.close()

    def step(self, step):
        return f"{self.uri}/checkpoints/step-{step}"

    def told_by(self, pair, *steps):
        own = self.attempt.folder.attempt(Pair.parse(pair))
        own.mkdir(exist_ok=True)
        report = Reporter(own, lambda: None)
        for step in steps:
            report.event("checkpoint", {"step": step, "uri": self.step(step)})
        return own / "events.jsonl"

    def tells(self):
        with copied(self.run, Checkpoints(self.output, UID, self.attempt.pair, self.attempt.fence.check, 0)):
            pass
        return self.attempt.data("checkpoint")


@pytest.fixture
def later(s3, attempt):
    return Later(s3, attempt)


def test_a_checkpoint_that_came_there_and_whose_run_was_killed_before_it_said_so_is_told_with_its_uri(later):
    later.told_by("1.0", 4)
    assert later.tells() == [{"step": 8, "uri": later.step(8), "bytes": 5, "kind": "step", "kept": [4, 8]}]


@pytest.mark.parametrize(
    ("told", "tells"),
    [
        ({"1.0": [4, 8]}, []),
        ({"1.0": [4], "2.0": [8]}, []),  # as the test above has it
        ({"1.0": []}, [4, 8]),
        ({}, []),  # that run was elsewhere, and so are its events
    ],
)
def test_what_a_run_of_this_machine_told_by_its_uri_is_not_told_again(later, told, tells):
    for pair, steps in told.items():
        later.told_by(pair, *steps)
    assert [data["step"] for data in later.tells()] == tells


@pytest.mark.parametrize("cut", [1, 9])
def test_of_an_event_that_was_cut_nobody_heard(later, cut):
    events = later.told_by("1.0", 4, 8)
    events.write_bytes(events.read_bytes()[:-cut])
    assert [data["step"] for data in later.tells()] == [8]


def test_what_is_brought_from_there_is_no_news(later):
    later.told_by("1.0", 4, 8)
    shutil.rmtree(later.output / "checkpoints" / "step-8")
    assert later.tells() == []
