"""Signals, commands, the fence, and going on afterwards."""

import json
import signal
import time

import pytest

from tests.held import go_on_to, held
from trainyard.trainer.checkpoints import complete

pytestmark = pytest.mark.slow
LONG = 2_000


def test_a_run_that_was_stopped_and_resumed_has_the_losses_of_one_that_was_not(new_job):
    undisturbed, stopped = new_job("undisturbed"), new_job("stopped")
    for job in (undisturbed, stopped):
        job.tuning |= {"max_steps": 40, "gradient_accumulation_steps": 2, "logging_steps": 1, "lr_scheduler": "cosine"}
    assert undisturbed.run() == 0, undisturbed.log

    stopped.paths = [held(stopped.folder, 4)]
    child = stopped.start()
    stopped.wait("progress", child, lambda data: data["step"] >= 4)
    child.send_signal(signal.SIGUSR1)
    go_on_to(stopped.folder, 12)
    stopped.wait("checkpoint", child)
    asked = stopped.events("checkpoint")[0]["step"]
    stopped.wait("progress", child, lambda data: data["step"] > asked)
    child.send_signal(signal.SIGTERM)
    go_on_to(stopped.folder)
    assert child.wait(timeout=200) == 75, stopped.log
    assert stopped.events("checkpoint")[-1]["kind"] == "stop"
    assert all(complete(stopped.output / "checkpoints" / name) for name in stopped.steps)
    reached = stopped.events("end")[0]["step"]
    assert reached < 40

    newest = stopped.output / "checkpoints" / f"step-{reached}"
    weights = newest / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert stopped.run("2.0") == 0, stopped.log
    assert f"{newest} is passed over: adapter_model.safetensors" in stopped.log
    assert "not equal" not in stopped.log
    again = stopped.losses("2.0")
    assert min(again) <= reached and max(again) == 40
    assert stopped.losses() | again == undisturbed.losses()


def test_a_full_model_goes_on_bit_for_bit(new_job):
    whole, parts = new_job("whole"), new_job("parts")
    for job in (whole, parts):
        job.custom = {"method": "full", "precision": "bf16"}
        job.tuning |= {"max_steps": 8, "save_steps": 4, "weight_decay": 0.1, "warmup_steps": 2}
    assert whole.run() == 0, whole.log
    parts.output.mkdir()
    (whole.output / "checkpoints").rename(parts.output / "checkpoints")
    (parts.output / "checkpoints" / "step-8").rename(parts.output / "checkpoints" / "step-8.tmp-1.0")
    assert parts.run("2.0") == 0, parts.log
    assert parts.losses("2.0") == {step: loss for step, loss in whole.losses().items() if step > 4}
    assert parts.steps == ["step-4", "step-8"], "what the older attempt left half-done is cleared"


def test_commands_are_answered_and_those_of_another_attempt_are_not(job):
    job.tuning["max_steps"] = LONG
    child = job.start()
    job.command("0.0", id="old", command="stop")
    job.command(id="c1", command="checkpoint")
    job.command(id="c2", command="change", values={"tuning_parameters.learning_rate": 1})
    job.command(id="c3", command="validate")
    job.wait("checkpoint", child)
    job.command(id="c1", command="checkpoint")
    job.wait("progress", child, lambda data: data["step"] > job.events("checkpoint")[0]["step"] + 2)
    job.command(id="c4", command="stop", why="pause")
    assert child.wait(timeout=200) == 75, job.log
    answers = {ack["id"]: ack["ok"] for ack in job.events("ack")}
    assert answers == {"c1": True, "c2": True, "c3": False, "c4": True}
    assert len(job.events("ack")) == 4
    assert "stop: pause" in job.log.splitlines()[-1]


def test_a_run_whose_attempt_was_replaced_leaves_with_77_and_writes_nothing_more(job):
    job.tuning |= {"max_steps": LONG, "save_steps": 5}
    child = job.start()
    job.wait("checkpoint", child)
    job.fence("2.0")
    assert child.wait(timeout=200) == 77, job.log
    told, kept = job.events(), job.steps
    assert told[-1]["type"] != "end"
    assert all(name.isalnum() or name.replace("-", "").isalnum() for name in kept), "no half-done folder is left"
    assert "fenced (77)" in job.log.splitlines()[-1]


@pytest.mark.parametrize("how", ["signal", "command"])
def test_a_stop_while_the_libraries_load_leaves_with_76_soon(job, how):
    child = job.start()
    job.wait("log", child)
    time.sleep(0.2)
    began = time.monotonic()
    if how == "signal":
        child.send_signal(signal.SIGTERM)
    else:
        job.command(id="c1", command="stop")
    assert child.wait(timeout=200) == 76, job.log
    assert time.monotonic() - began < 40
    assert job.events("end") == [{"step": 0}]
    assert json.dumps(job.events("ack")) == ("[]" if how == "signal" else '[{"id": "c1", "ok": true}]')


def test_data_that_became_shorter_is_gone_on_with_in_the_next_epoch(here):
    here.tuning |= {"batch_size": 1, "max_steps": 5}
    here.train()
    here.rows([{"text": "one row"}, {"text": "and another"}])
    here.tuning |= {"max_steps": 8}
    assert here.train().step == 8
    assert here.said("the data is not what it was")
    assert [p["epoch"] for p in here.events("progress")] == [1.5, 2.0, 2.5]


def test_a_run_that_stops_between_two_reports_tells_where_it_stands_and_resumes_as_if_it_never_had(new_job):
    whole, parts = new_job("whole"), new_job("parts")
    for job in (whole, parts):
        job.tuning |= {"max_steps": 120, "logging_steps": 20}
    assert whole.run() == 0, whole.log
    parts.paths = [held(parts.folder, 20)]
    child = parts.start()
    parts.wait("progress", child)
    child.send_signal(signal.SIGTERM)
    go_on_to(parts.folder)
    assert child.wait(timeout=200) == 75, parts.log
    stopped = parts.events("checkpoint")[-1]["step"]
    assert stopped < 120
    assert parts.events("progress")[-1]["step"] == stopped
    assert parts.run("2.0") == 0, parts.log
    assert parts.losses("2.0") == {step: loss for step, loss in whole.losses().items() if step > stopped}
