"""Scripts of the caller's own: split, then filled; refused before the training, told after; they never end it."""

import contextlib
import json
import time
from pathlib import Path

import pytest

from schemas.diffusion import Options
from trainyard.trainer.diffusion.scripts import Script, Scripts, known, values
from trainyard.trainer.failures import ConfigError, Stopped

ARGUMENTS = "pathlib.Path('told.json').write_text(json.dumps([sys.argv[1:], dict(os.environ)]))"


def options(**given):
    return Options(**({"model_family": "flux", "model_type": "lora"} | given))


def told(run):
    return json.loads((run.spec.output / "told.json").read_text())


def lives(pid):
    with contextlib.suppress(OSError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    return False


def ended(scripts, attempt, count=1):
    until = time.monotonic() + 20
    while len(found := [e for e in attempt.data("log") if "exit_code" in e]) < count:
        scripts.look()
        assert time.monotonic() < until, attempt.data("log")
        time.sleep(0.02)
    return found


def test_a_value_with_blanks_and_quotes_stays_one_argument_and_no_shell_sees_it(run, attempt, program):
    arguments = "{local_checkpoint_path} '--at={global_step} of $HOME' {tracker_run_name};x {huggingface_path}"
    template = f"{program(ARGUMENTS)} {arguments}"
    scripts = Scripts(options(post_checkpoint_script=template, tracker_run_name="a 'b' $(c)"), run)
    scripts.checkpoint(Path("/out/step 7"), 7)
    (event,) = ended(scripts, attempt)
    assert told(run)[0] == ["/out/step 7", "--at=7 of $HOME", "a 'b' $(c);x", ""]
    assert (event["script"], event["exit_code"], event["level"]) == ("post_checkpoint_script", 0, "info")


def test_every_validation_option_is_a_placeholder_and_an_unset_one_is_empty():
    given = options(validation_guidance=3.5, validation_preview=True)
    found = values(given, Path("/c"), 3, "s3://b/c")
    assert found.keys() == known(given) and {"validation_prompt", "lora_type", "huggingface_path"} <= found.keys()
    assert (found["validation_guidance"], found["validation_preview"], found["validation_seed"]) == ("3.5", "true", "")
    assert (found["remote_checkpoint_path"], found["global_step"], found["model_family"]) == ("s3://b/c", "3", "flux")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("echo {global_stop}", r"\{global_stop\} is no placeholder; there are .*global_step"),
        ("echo 'a", "can't be split into arguments"),
        ("./hook.sh", "an absolute path"),
        ("/no/such/hook.sh {global_step}", "is no program that can be started"),
    ],
)
def test_what_can_t_be_run_is_refused_before_the_training_by_its_option(run, template, problem):
    with pytest.raises(ConfigError, match=rf"extra_parameters\.post_upload_script: .*{problem}"):
        Scripts(options(post_upload_script=template), run)


def test_braces_that_are_no_placeholder_are_left_alone():
    assert Script.of("x", """echo '{"a": 1}' {global_step}""", {"global_step"}).filled({"global_step": "4"}) == [
        "echo",
        '{"a": 1}',
        "4",
    ]


def test_external_validation_needs_its_script(run):
    with pytest.raises(ConfigError, match="validation_external_script: validation_method external-script needs one"):
        Scripts(options(validation_method="external-script"), run)


def test_no_secret_and_nothing_of_a_launcher_is_handed_over(with_secrets, attempt, program):
    scripts = Scripts(options(post_upload_script=program(ARGUMENTS)), with_secrets)
    scripts.uploaded(Path("/out/step-1"), 1, "s3://b/step-1")
    ended(scripts, attempt)
    environment = told(with_secrets)[1]
    assert environment["PLAIN"] == "seen" and environment["TRAINYARD_RUN"].endswith(".2.1")
    assert not environment.keys() & {"FAL_SERVICE", "SOURCE", "HF_TOKEN", "TRAINYARD_ATTEMPT_DIR"}
    assert not environment.keys() & {"RANK", "LOCAL_RANK", "MASTER_ADDR", "ROLE_NAME", "TRAINYARD_LAUNCHED"}


def test_after_an_upload_the_output_folder_may_be_gone(run, attempt, program):
    scripts = Scripts(options(post_upload_script=f"{program(ARGUMENTS)} '{{local_checkpoint_path}}'"), run)
    run.spec.output.rmdir()
    scripts.uploaded(None, 3, "s3://b/final")
    assert ended(scripts, attempt)[0]["exit_code"] == 0
    assert json.loads((run.claim.folder.path / "told.json").read_text())[0] == [""]


def test_a_failure_is_a_warning_and_its_output_is_in_the_log(run, attempt, program, capfd):
    script = program("print('what went wrong', flush=True); sys.exit(3)")
    scripts = Scripts(options(post_checkpoint_script=script), run)
    scripts.checkpoint(Path("/out/step-1"), 1)
    (event,) = ended(scripts, attempt)
    assert (event["level"], event["exit_code"]) == ("warning", 3) and "ended with 3" in event["message"]
    assert "what went wrong" in capfd.readouterr().out


def test_a_program_that_went_away_is_a_warning(run, attempt, program):
    script = program("")
    scripts = Scripts(options(post_checkpoint_script=script), run)
    Path(script.strip("'")).unlink()
    scripts.checkpoint(Path("/out/step-1"), 1)
    assert (
        attempt.data("log")[-1]["level"] == "warning" and "could not be started" in attempt.data("log")[-1]["message"]
    )


def test_one_over_its_time_is_ended(run, attempt, program):
    scripts = Scripts(options(post_checkpoint_script=program("time.sleep(60)")), run, limit_seconds=0.1)
    scripts.checkpoint(Path("/out/step-1"), 1)
    (event,) = ended(scripts, attempt)
    assert event["level"] == "warning" and "took more than 0.1 s" in event["message"]


def test_external_validation_is_waited_for_unless_in_the_background(run, attempt, program):
    script = program("time.sleep(0.3); pathlib.Path('done').touch()")
    given = {"validation_method": "external-script", "validation_external_script": script}
    scripts = Scripts(options(**given), run)
    assert scripts.validate(Path("/c"), 4) == "validation_external_script ended with 0 at step 4"
    assert (run.spec.output / "done").exists() and attempt.data("log")[-1]["exit_code"] == 0
    behind = Scripts(options(validation_external_background=True, **given), run)
    began = attempt.data("log")
    assert behind.validate(Path("/c"), 5) == "validation_external_script was started at step 5"
    assert attempt.data("log") == began
    behind.close()
    assert len(attempt.data("log")) == len(began) + 1


def test_external_validation_without_a_checkpoint_is_skipped_and_told(run, attempt, program):
    given = {"validation_method": "external-script", "validation_external_script": program("pathlib.Path('x').touch()")}
    assert "skipped at step 1" in Scripts(options(**given), run).validate(None, 1)
    assert attempt.data("log")[-1]["status"] == "skipped" and not (run.spec.output / "x").exists()


def test_a_stop_ends_the_validation_that_is_waited_for(run, attempt, program):
    script = program(
        "line = json.dumps({'format': 1, 'attempt': '2.1', 'id': 's', 'command': 'stop'})\n"
        "open(sys.argv[1], 'a').write(line + chr(10)); time.sleep(60)"
    )
    given = {
        "validation_method": "external-script",
        "validation_external_script": f"{script} '{attempt.folder.control}'",
    }
    with pytest.raises(Stopped):
        Scripts(options(**given), run).validate(Path("/c"), 1)
    assert "was ended, as the run stops" in attempt.data("log")[-1]["message"]


def test_at_the_end_a_script_has_a_grace_and_is_then_ended_with_what_it_started(run, attempt, program):
    script = program(
        "import subprocess; p = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path('child.new').write_text(str(p.pid)); os.rename('child.new', 'child'); time.sleep(60)"
    )
    scripts = Scripts(options(post_checkpoint_script=script), run, grace_seconds=1.0)
    scripts.checkpoint(Path("/c"), 1)
    until = time.monotonic() + 30
    while not (run.spec.output / "child").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    scripts.close()
    child = (run.spec.output / "child").read_text()
    assert "was ended, as the run is over" in attempt.data("log")[-1]["message"]
    while lives(child):
        assert time.monotonic() < until
        time.sleep(0.02)


def test_several_that_are_ended_have_the_same_time_for_it(run, attempt, program):
    script = program(  # each ends well as soon as the other was asked to end too
        "own, other = sys.argv[1], str(3 - int(sys.argv[1]))\n"
        "def asked(*_):\n"
        "    pathlib.Path(f'asked {own}').touch()\n"
        "    while not pathlib.Path(f'asked {other}').exists(): time.sleep(0.01)\n"
        "    os._exit(0)\n"
        "signal.signal(signal.SIGTERM, asked); pathlib.Path(f'ready {own}').touch(); time.sleep(60)"
    )
    scripts = Scripts(options(post_checkpoint_script=f"{script} {{global_step}}"), run)
    for step in (1, 2):
        scripts.checkpoint(Path("/c"), step)
    until = time.monotonic() + 20
    while len(list(run.spec.output.glob("ready *"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.02)
    scripts.end()
    assert [data["exit_code"] for data in attempt.data("log")] == [0, 0]


def test_a_stopped_run_waits_for_no_script(run, attempt, program):
    scripts = Scripts(options(post_checkpoint_script=program("time.sleep(60)")), run)
    scripts.checkpoint(Path("/c"), 1)
    scripts.end()
    assert attempt.data("log")[-1]["exit_code"] == -15
