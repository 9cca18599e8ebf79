"""Values that change while a run goes on: at one step in every process, and at the same step again on resume."""

import shutil

import pytest

from tests.integration.trainer.test_processes_curves import prepared

pytestmark = pytest.mark.slow
RATE = "tuning_parameters.learning_rate"
STEPS = "tuning_parameters.max_steps"


def changed_while_it_runs(job, values):
    child = job.start()
    job.wait("progress", child, lambda data: data["step"] >= 3)
    job.command(id="c1", command="change", values=values)
    assert child.wait(timeout=280) == 0, job.log
    (ack,) = job.events("ack")
    assert (ack["id"], ack["ok"]) == ("c1", True)
    return ack["step"]


def test_two_processes_take_a_change_at_the_same_step_and_one_repeats_it_there(new_job):
    two = prepared(new_job, "two", "lora", processes=2, max_steps=2000, lr_scheduler="constant")
    at = changed_while_it_runs(two, {RATE: 5e-3, STEPS: 40})
    rates = {data["step"]: data["learning_rate"] for data in two.events("progress")}
    assert {rate for step, rate in rates.items() if step <= at} == {1e-3}
    assert {rate for step, rate in rates.items() if step > at} == {5e-3}
    one = prepared(new_job, "one", "lora", max_steps=2000, lr_scheduler="constant")
    one.changes = [{"step": at, "values": {RATE: 5e-3, STEPS: 40}}]
    assert one.run() == 0, one.log
    assert one.losses() == pytest.approx(two.losses(), rel=1e-3)


def test_a_resume_from_before_a_change_repeats_it_bit_for_bit(new_job):
    whole = prepared(new_job, "whole", "lora", save_steps=2, max_steps=2000, save_total_limit=1000)
    at = changed_while_it_runs(whole, {RATE: 5e-3, STEPS: 40})
    before = at - 1 - (at - 1) % 2
    parts = prepared(new_job, "parts", "lora", save_steps=2, max_steps=2000)
    parts.changes = [{"step": at, "values": {RATE: 5e-3, STEPS: 40}}]
    shutil.copytree(whole.output / "checkpoints" / f"step-{before}", parts.output / "checkpoints" / f"step-{before}")
    assert parts.run() == 0, parts.log
    assert parts.losses() == {step: loss for step, loss in whole.losses().items() if step > before}


def test_a_change_that_the_run_does_not_know_is_answered_with_what_it_knows(job):
    job.tuning["max_steps"] = 2000
    child = job.start()
    job.wait("progress", child)
    job.command(id="c1", command="change", values={"tuning_parameters.batch_size": 3})
    job.wait("ack", child)
    job.command(id="c2", command="stop")
    assert child.wait(timeout=200) == 75
    refused = job.events("ack")[0]
    assert refused["ok"] is False
    assert "batch_size can't be changed" in refused["message"]
