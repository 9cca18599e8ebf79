"""What a guard does for a run that goes its way: claim, environment, log, outcome, fence."""

import json
import re
from pathlib import Path

import pytest

from tests.faults.conftest import Guarded


@pytest.mark.parametrize("code", [0, 3, 75])
def test_the_exit_code_is_recorded(guarded: Guarded, code: int) -> None:
    guarded.shell(f"exit {code}")
    assert guarded.code() == code
    outcome = guarded.exit()
    assert outcome.pop("at").endswith("Z")
    assert outcome == {"format": 1, "code": code, "signal": None}
    owner = json.loads((guarded.folder() / "owner.json").read_text())
    assert owner["pid"] == guarded.started[0].pid and owner["boot_id"] and owner["host"]
    assert sorted(p.name for p in guarded.folder().iterdir()) == ["exit.json", "lock", "owner.json"]


def test_a_signal_is_recorded(guarded: Guarded) -> None:
    guarded.shell("kill -SEGV $$")
    assert guarded.code() == 128 + 11
    assert (guarded.exit()["code"], guarded.exit()["signal"]) == (None, 11)


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_a_program_that_can_not_be_started_is_told_in_the_log(guarded: Guarded, program: str, code: int) -> None:
    guarded.start(program, "x")
    assert guarded.code() == code
    assert guarded.exit()["code"] == code
    assert f"── guard: can't start '{program}': " in guarded.log()


def test_a_spec_that_can_not_be_read_is_an_internal_failure_with_its_cause(guarded: Guarded) -> None:
    (guarded.job / "spec.json").write_text("{")
    guarded.shell("exit 0")
    assert guarded.code() == 70
    assert guarded.exit()["code"] == 70
    assert "JSONDecodeError" in guarded.log()


def test_of_two_guards_one_runs_and_the_other_touches_nothing(guarded: Guarded) -> None:
    both = [guarded.shell("echo ran; sleep 0.3; exit 5") for _ in range(2)]
    assert sorted(process.wait(90) for process in both) == [0, 5]
    assert guarded.log().count("ran") == 1
    before = {path: path.stat().st_mtime_ns for path in guarded.job.rglob("*")}
    assert guarded.shell("echo again").wait(90) == 0
    assert {path: path.stat().st_mtime_ns for path in guarded.job.rglob("*")} == before


def test_a_restarted_run_has_a_claim_of_its_own_and_raises_the_fence(guarded: Guarded) -> None:
    guarded.shell("exit 0")
    guarded.code()
    guarded.shell("echo $TRAINYARD_RUN", SLURM_RESTART_COUNT="1", SLURM_JOB_ID="77")
    assert guarded.code() == 0
    assert (guarded.job / "attempt").read_text() == "1.1\n"
    assert json.loads((guarded.folder("1.1") / "owner.json").read_text())["slurm_job_id"] == "77"
    assert f"{guarded.uid}.1.1\n" in guarded.log()
    assert re.findall(r"^── attempt (\d+)\.(\d+) ── \S+Z ──$", guarded.log(), re.MULTILINE) == [("1", "0"), ("1", "1")]


def test_a_run_that_is_shut_out_starts_nothing(guarded: Guarded) -> None:
    (guarded.job / "attempt").write_text("2.0\n")
    guarded.shell("echo ran")
    assert guarded.code() == 77
    assert guarded.exit()["code"] == 77
    assert guarded.log() == ""


def test_the_program_finds_its_environment_and_nothing_of_the_services(guarded: Guarded) -> None:
    guarded.spec(devices=["0", "GPU-7"], threads=3)
    secrets = {"format": 1, "values": {"token": "hidden"}, "env": {"MINE": "a b"}, "job_token": "jt"}
    secrets["events_url"] = "http://127.0.0.1:1/events"
    (guarded.job / "secrets.1").write_text(json.dumps(secrets))
    dump = "import json, os, signal, sys; held = signal.pthread_sigmask(0, []); print(json.dumps([dict(os.environ), "
    dump += "sys.stdin.read(), os.getsid(0) == os.getpid(), sorted(held), oct(os.umask(0)), os.listdir('/dev/fd')]))"
    guarded.start("python3", "-I", "-S", "-c", dump, TRAINYARD_TOKEN="secret", TRAINYARD_RUN="old")
    assert guarded.code() == 0, guarded.log()
    env, stdin, leads, held, mask, files = json.loads(guarded.log().splitlines()[-1])
    ours = {key: value for key, value in env.items() if key.startswith("TRAINYARD_")}
    assert ours == {
        "TRAINYARD_JOB_ID": "job-1",
        "TRAINYARD_SPEC": str(guarded.job / "spec.json"),
        "TRAINYARD_RUN": f"{guarded.uid}.1.0",
        "TRAINYARD_ATTEMPT_DIR": str(guarded.folder()),
        "TRAINYARD_JOB_TOKEN": "jt",
        "TRAINYARD_EVENTS_URL": "http://127.0.0.1:1/events",
    }
    assert env["KUBEFLOW_TRAINER_SERVER_URL"] == "http://127.0.0.1:1/events/kubeflow"
    token = Path(env["KUBEFLOW_TRAINER_SERVER_TOKEN"])
    assert (token.read_text(), oct(token.stat().st_mode)[-3:]) == ("jt", "600")
    assert (env["MINE"], env["CUDA_VISIBLE_DEVICES"], env["OMP_NUM_THREADS"]) == ("a b", "0,GPU-7", "3")
    assert "hidden" not in str(env)
    assert (stdin, leads, held, mask) == ("", True, [], "0o77")
    assert sorted(files)[:3] == ["0", "1", "2"] and len(files) <= 4


def test_no_devices_means_none_are_seen(guarded: Guarded) -> None:
    guarded.shell('echo "[$CUDA_VISIBLE_DEVICES]"', CUDA_VISIBLE_DEVICES="5")
    guarded.code()
    assert "[]\n" in guarded.log()


def test_stderr_and_stdout_are_appended_to_one_log(guarded: Guarded) -> None:
    (guarded.job / "train.log").write_text("older, cut off")
    guarded.shell("echo out; echo err >&2; echo more")
    guarded.code()
    lines = guarded.log().splitlines()
    assert lines[0] == "older, cut off" and lines[1].startswith("── attempt 1.0 ── ")
    assert lines[2:] == ["out", "err", "more"]
