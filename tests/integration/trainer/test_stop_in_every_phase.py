"""SIGTERM in every phase: the run leaves within a second or so, with a checkpoint where there is something to keep."""

import signal
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.held import go_on_to, held
from tests.s3 import Gate
from trainyard.trainer.checkpoints import complete

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("stopped_in.py")
TRAIN = "trainyard.trainer.text.train"
SOON = 20.0  # a second, on a machine that has other things to do and may sleep one anywhere


def many(job, rows):
    job.rows(
        [{"text": f"Row {n} is one of very many, and like them all it takes a while to read."} for n in range(rows)]
    )


def stopped_in(job, where, seconds, monkeypatch):
    """The exit code, when this function is interrupted so long after its call; and how long the leaving took."""
    argv = f'exec {sys.executable} -P {PROGRAM} {where} {seconds} "$4"'
    around = job.folder.parent / "stopped-in"
    around.write_text(f"#!/bin/sh\n{argv}\n")  # in the place of: python -P -m trainyard.trainer JOBDIR
    around.chmod(0o755)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(around))
        child = job.start()
    code = child.wait(timeout=200)
    assert (job.folder / "stopped_at").exists(), job.log
    return code, time.time() - float((job.folder / "stopped_at").read_text())


@pytest.mark.parametrize(
    ("where", "seconds"),
    [
        ("trainyard.trainer.text.engine:look", 0.1),
        (f"{TRAIN}:tokenise", 0.3),
        (f"{TRAIN}:models.load_model", 0.0),
    ],
    ids=["reading", "tokenising", "loading"],
)
def test_before_the_first_step_there_is_nothing_to_keep(job, where, seconds, monkeypatch):
    if "load_model" not in where:
        many(job, 100_000)
    code, took = stopped_in(job, where, seconds, monkeypatch)
    assert code == 76, job.log
    assert took < SOON, job.log
    assert job.events("end") == [{"step": 0}] and job.events("checkpoint") == []


def test_in_the_first_step_that_step_is_kept(job, monkeypatch):
    job.tuning |= {"max_steps": 1000, "micro_batch_size": 8}
    code, took = stopped_in(job, f"{TRAIN}:Step.gradient", 0.0, monkeypatch)
    assert (code, job.steps) == (75, ["step-1"]), job.log
    assert took < SOON
    (saved,) = job.events("checkpoint")
    assert saved["kind"] == "stop" and 0 < saved["seconds"] < took


@pytest.mark.parametrize(("steps", "code"), [(0, 76), (1, 75)])
def test_in_an_evaluation_the_steps_before_it_are_kept(job, steps, code, monkeypatch):
    many(job, 4000)
    job.tuning |= {"max_steps": 1000, "eval_ratio": 0.9, "eval_steps": 1, "micro_batch_size": 2, "batch_size": 2}
    if steps:  # a run before this one has been evaluated at its start
        job.tuning |= {"max_steps": 1, "eval_ratio": 0.0}
        assert job.run("0.1") == 0, job.log
        (job.output / "final").rename(job.output / "before")
        job.tuning |= {"max_steps": 1000, "eval_ratio": 0.9}
    found, took = stopped_in(job, f"{TRAIN}:Evaluation.measure", 0.3, monkeypatch)
    assert found == code, job.log
    assert took < SOON
    assert all(complete(job.output / "checkpoints" / name) for name in job.steps)
    assert len(job.steps) == steps


def test_while_its_results_wait_for_a_lost_network_they_are_kept_here(job, s3, monkeypatch):
    gate = Gate(urlsplit(s3.url).port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
    job.output = s3.uri("results/job-1")
    job.options = {"cache_dir": str(job.folder / "cache"), "spare_bytes": 0}
    job.tuning["max_steps"] = 40
    try:
        job.paths = [held(job.folder, 3)]
        child = job.start()
        job.wait("progress", child, lambda data: data["step"] >= 3)
        gate.shut = True
        go_on_to(job.folder)
        job.wait("phase", child, lambda data: data["phase"] == "uploading")
        time.sleep(0.5)
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=200) == 75, job.log
        assert time.monotonic() - began < SOON
        assert complete(job.folder / "output" / "checkpoints" / "step-40")
    finally:
        gate.close()
