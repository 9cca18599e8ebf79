"""Which checkpoint of an earlier job is begun with: `latest`, a name, a path."""

import json
import math
import os
from types import SimpleNamespace

import pytest

from schemas.diffusion import Options
from trainyard.trainer.diffusion.beginning import begun_with, problem_of
from trainyard.trainer.diffusion.engine import _still_asked
from trainyard.trainer.diffusion.keep import plain
from trainyard.trainer.failures import ConfigError


class Runs:
    """A folder of outputs."""

    def __init__(self, folder):
        self.folder, self.own, self.said = folder, folder / "own", []

    def left(self, job, step, at, **options):
        """A checkpoint that a job wrote at this second."""
        place = self.folder / job / "checkpoints" / f"step-{step}"
        place.mkdir(parents=True)
        (place / "trained").write_bytes(b"12345")
        files = {"trained": [5, "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"]}
        record = {"format": 1, "uid": job, "step": step, "files": files, "settings": plain(Options(**options))}
        (place / "checkpoint.json").write_text(json.dumps(record))
        os.utime(place / "checkpoint.json", (at, at))
        return place

    def begun(self, asked, since=math.inf, folder=None, **options):
        options = Options(resume_from_checkpoint=asked, resume_from_folder=folder or str(self.folder), **options)
        found = begun_with(options, self.own, since, self.said.append)
        return None if found is None else (found.path.parents[1].name, found.step)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def test_the_latest_is_the_one_that_was_written_last_by_whichever_job(runs):
    runs.left("long", 900, at=100)
    runs.left("anew", 20, at=300)
    runs.left("anew", 10, at=200)
    runs.left("own", 5, at=400)
    assert runs.begun("latest") == ("anew", 20)
    assert "begins with" in runs.said[-1] and "anew" in runs.said[-1]
    assert runs.begun("") is None
    assert runs.begun("latest", since=250) == ("anew", 10), "what came after this run began does not count"
    assert runs.begun("latest", folder=str(runs.folder / "long")) == ("long", 900), "a single job's output"


def test_latest_is_of_the_same_model_and_leaves_steps_to_do(runs):
    runs.left("good", 10, at=100)
    runs.left("elsewhere", 20, at=200, pretrained_model_name_or_path="another/model")
    runs.left("done", 50, at=300)
    assert runs.begun("latest", max_train_steps=50) == ("good", 10)
    assert "has all 50 steps of this job already" in runs.said[0] and "pretrained_model_name_or_path" in runs.said[1]


def test_a_job_with_a_checkpoint_of_its_own_no_longer_asks_for_the_one_it_began_with():
    asked = Options(resume_from_checkpoint="/gone/step-500")
    assert _still_asked(asked, SimpleNamespace(in_size=lambda: None)) is asked
    assert _still_asked(asked, SimpleNamespace(in_size=lambda: "its own")).resume_from_checkpoint == "latest"


def test_a_name_is_found_under_simpletuners_word_too_and_only_where_it_is(runs):
    for job, at in (("first", 100), ("second", 200)):
        runs.left(job, 10, at)
        runs.left(job, 20, at + 1)
    assert runs.begun("step-10") == runs.begun("checkpoint-10") == ("second", 10)
    with pytest.raises(
        ConfigError, match=r"resume_from_checkpoint: step-9 is no whole checkpoint in .*; there are step-1"
    ):
        runs.begun("step-9")
    with pytest.raises(ConfigError, match="step-9 is no whole checkpoint: s3://b/x is not on this machine"):
        runs.begun("step-9", folder="s3://b/x")
    assert runs.begun("latest", folder="s3://b/x") is None and "is not on this machine" in runs.said[-1]


def test_of_what_is_damaged_or_of_another_kind_latest_says_so_and_a_name_ends_the_run(runs):
    runs.left("good", 10, at=100)
    runs.left("other", 30, at=200, lora_rank=4)
    (runs.left("cut", 40, at=300) / "trained").write_bytes(b"1")
    assert runs.begun("latest") == ("good", 10)
    assert ["is passed over" in said for said in runs.said] == [True, True, False]
    assert "trained has 1 bytes" in runs.said[0] and "another kind of training: lora_rank 4, here 16" in runs.said[1]
    with pytest.raises(ConfigError, match="another kind of training: lora_rank 4, here 16"):
        runs.begun("step-30")
    with pytest.raises(ConfigError, match="step-40 is no whole checkpoint: trained has 1 bytes"):
        runs.begun("step-40")


def test_a_path_is_looked_at_before_the_run(runs):
    whole = runs.left("good", 10, at=100)
    assert runs.begun(str(whole)) == ("good", 10)
    assert problem_of(Options(resume_from_checkpoint=str(whole))) is None
    assert problem_of(Options(resume_from_checkpoint="step-1")) is None
    (whole / "trained").unlink()
    assert "no whole checkpoint: trained is missing" in (problem_of(Options(resume_from_checkpoint=str(whole))) or "")
