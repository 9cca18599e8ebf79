"""When there is a validation, and who is answered."""

import errno
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from trainyard.trainer.diffusion.validation.pictures import Files
from trainyard.trainer.failures import ConfigError, DataError, DiskFull, Fenced, StopNow, Stopped
from trainyard.trainer.processes import World

ALONE = World.alone(torch.device("cpu"))


def at(studio, step, per_epoch=10):
    studio.position.step, studio.position.epoch, studio.position.index = step, step // per_epoch, step % per_epoch
    return studio.position


def reasons(studio, until=25, **given):
    """Why there is one at which step of a run from its beginning."""
    studio.position.evaluated, studio.total = -1, until
    validation, found = studio.validation(**given), {}
    for step in range(until + 1):
        if why := validation.due(at(studio, step)):
            found[step] = why
            studio.position.evaluated = step
            assert validation.due(studio.position) is None, "once a step"
    return found


BENCHMARK, END = {0: "benchmark"}, {25: "end"}
NONE = {"validation_step_interval": 0}
SCRIPT = {"validation_method": "external-script", "validation_external_script": "true"}


@pytest.mark.parametrize(
    ("given", "when"),
    [
        ({"validation_step_interval": 10}, BENCHMARK | {10: "step", 20: "step"} | END),
        (NONE, BENCHMARK | END),
        (NONE | {"disable_benchmark": True}, END),
        (NONE | {"disable_benchmark": True, "validation_on_startup": True}, {0: "startup"} | END),
        (NONE | {"validation_epoch_interval": 2}, BENCHMARK | {20: "epoch"} | END),
        ({"validation_step_interval": 5, "validate_after_step": 15}, BENCHMARK | {15: "step", 20: "step"} | END),
        ({"validation_step_interval": 5, "validate_after_epoch": 2}, BENCHMARK | {20: "step"} | END),
        ({"validation_disable": True}, {}),
        ({"validation_prompt": None}, {}),
        (SCRIPT | {"validation_step_interval": 10}, {10: "step", 20: "step"} | END),
    ],
)
def test_it_is_due_as_the_options_say(studio, given, when):
    assert reasons(studio, **given) == when


def test_a_run_that_goes_on_shows_no_base_model_and_does_nothing_twice(studio):
    studio.position.evaluated = 10
    validation = studio.validation(validation_step_interval=10)
    assert validation.due(at(studio, 10)) is None
    studio.position.evaluated = 0
    assert studio.validation(validation_step_interval=10).due(at(studio, 10)) == "step"
    studio.position.evaluated = 10
    assert studio.validation(validation_on_startup=True).due(at(studio, 10)) == "startup"


def test_a_command_is_taken_after_a_step_and_answered_when_the_pictures_are_there(studio, attempt):
    validation = studio.validation(disable_benchmark=True)
    studio.run.control.answer_validations(None)
    attempt.command({"id": "c1", "command": "validate"})
    studio.run.control.poll()
    assert validation.due(at(studio, 3)) is None
    studio.run.control.agree(ALONE)
    assert validation.due(studio.position) == "command"
    assert attempt.data("ack") == []
    validation.run(studio.denoiser, studio.position, "command")
    assert attempt.data("ack") == [{"id": "c1", "ok": True, "message": "1 picture at step 3", "step": 3}]
    assert attempt.data("validation")[0]["why"] == "command" and studio.position.evaluated == 3
    assert validation.due(studio.position) is None


def test_a_command_from_before_the_first_step_is_not_answered_with_the_base_model(studio, attempt):
    validation = studio.validation()
    studio.run.control.answer_validations(None)
    attempt.command({"id": "c1", "command": "validate"})
    studio.run.control.poll()
    validation.run(studio.denoiser, at(studio, 0), "benchmark")
    assert attempt.data("ack") == []
    studio.run.control.agree(ALONE)
    assert validation.due(at(studio, 1)) == "command"


def test_a_stop_is_seen_between_two_sampling_steps(studio, attempt):
    steps = 300
    validation = studio.validation(validation_preview=True, validation_num_inference_steps=steps)
    studio.run.control.answer_validations(None)
    attempt.command({"id": "c1", "command": "validate"})
    studio.run.control.agree(ALONE)

    def stop():
        while not (attempt.own / "events.jsonl").read_bytes().count(b"sampling_step"):
            time.sleep(0.001)
        attempt.command({"id": "s", "command": "stop"})

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(Stopped) as raised:
        validation.run(studio.denoiser, at(studio, 3), "command")
    stopper.join()
    assert {event["kind"] for event in attempt.data("validation")} == {"preview"}
    assert len(attempt.data("validation")) < steps
    assert raised.value.together and studio.position.evaluated == -1
    assert {(a["id"], a["ok"]) for a in attempt.data("ack")} == {("s", True), ("c1", False)}


def test_memory_that_runs_out_is_a_warning_and_the_answer_is_no(studio, attempt):
    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    validation = studio.validation(ema=full, ema_validation="ema_only")
    studio.run.control.answer_validations(None)
    attempt.command({"id": "c1", "command": "validate"})
    studio.run.control.agree(ALONE)
    validation.run(studio.denoiser, at(studio, 3), "command")
    assert attempt.data("log")[-1]["level"] == "warning"
    assert attempt.data("ack")[-1]["ok"] is False and "out of memory" in attempt.data("ack")[-1]["message"]
    assert studio.position.evaluated == 3, "it is not tried again at once"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DataError("a.png: can't be read"), "validation at step 3: a.png: can't be read"),
        (KeyError("latents"), "validation at step 3: KeyError: 'latents'"),
    ],
)
def test_what_fails_in_a_look_is_a_warning_and_the_run_goes_on(studio, attempt, error, said):
    def broken():
        raise error

    validation = studio.validation(ema=broken, ema_validation="ema_only")
    studio.run.control.answer_validations(None)
    attempt.command({"id": "c1", "command": "validate"})
    studio.run.control.agree(ALONE)
    validation.run(studio.denoiser, at(studio, 3), "command")
    told = attempt.data("log")[-1]
    assert (told["level"], told["message"]) == ("warning", said)
    (ack,) = attempt.data("ack")
    assert ack["ok"] is False and ack["message"] == said and studio.position.evaluated == 3


@pytest.mark.parametrize(
    "error", [Fenced("replaced"), DiskFull("full"), OSError(errno.ENOSPC, "No space left on device"), StopNow("stop")]
)
def test_what_ends_a_run_ends_it_in_a_look_too(studio, error):
    def broken():
        raise error

    validation = studio.validation(ema=broken, ema_validation="ema_only")
    with pytest.raises(type(error)):
        validation.run(studio.denoiser, at(studio, 3), "step")


def test_a_run_that_was_replaced_leaves_no_picture(studio, attempt):
    files = Files(studio.run, "png", 90)
    picture = Image.new("RGB", (8, 8))
    files.write(picture, 1, "before")
    (attempt.folder.path / "attempt").write_text("3.0\n")
    with pytest.raises(Fenced):
        files.write(picture, 1, "after")
    files.clear()
    assert [path.name for path in studio.run.spec.output.rglob("*.png")] == ["before.png"]


def test_a_script_in_place_of_pictures_gets_the_newest_checkpoint(studio, attempt):
    script = {"validation_method": "external-script", "validation_external_script": "touch {global_step}"}
    validation = studio.validation(newest=lambda: Path("/out/step-4"), **script)
    validation.run(studio.denoiser, at(studio, 4), "step")
    assert (studio.run.spec.output / "4").exists() and attempt.data("validation") == []
    studio.validation(**script).run(studio.denoiser, at(studio, 5), "step")
    assert not (studio.run.spec.output / "5").exists() and "skipped" in attempt.data("log")[-1]["message"]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            {"validation_noise_scheduler": "ddim"},
            "validation_noise_scheduler: 'ddim' is for models that are told noise",
        ),
        ({"validation_using_datasets": True}, "flux of this flavour is not shown pictures"),
    ],
)
def test_what_the_family_can_t_do_is_refused(studio, given, problem):
    with pytest.raises(ConfigError, match=problem):
        studio.validation(**given)


def test_sizes_are_rounded_to_what_the_family_can_make_and_that_is_told(studio, attempt):
    validation = studio.validation(validation_resolution="40x25,33x31")
    assert validation._drawing.plan.sizes == ((32, 32),)
    assert "rounded to 32x32" in attempt.data("log")[-1]["message"]
