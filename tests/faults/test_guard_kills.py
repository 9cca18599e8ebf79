"""What a guard does about programs that will not go, helpers that hide, full disks, and its own death."""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import UNTIL_GO, Guarded
from trainyard import guard

# A grandchild that leaves session, parent and environment behind, as a stray worker or a daemon does.
HIDDEN = "(setsid sh -c '(env -i /bin/sleep 987) & echo $! > $TRAINYARD_ATTEMPT_DIR/hidden'); sleep 0.1"
RANK = "trap 'echo rank $RANK got TERM; exit 75' TERM; trap 'echo rank $RANK got USR1' USR1; "
RANK += "sh -c 'while :; do sleep 0.02; done' & helper=$!; echo rank $RANK ready; "
RANK += "while :; do sleep 0.02; kill -0 $helper || echo helper was hit; done"


def hidden(guarded: Guarded) -> int:
    path = guarded.folder() / "hidden"
    return int(guarded.until(lambda: path.exists() and path.read_text().strip()))


def gone(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()
    return True


def test_a_program_that_ignores_term_is_killed_after_the_grace(guarded: Guarded) -> None:
    process = guarded.shell("trap '' TERM; echo ready; sleep 987 & sleep 986", options=("--grace", "0.3"))
    guarded.until("ready")
    began = time.monotonic()
    process.terminate()
    assert guarded.code() == 128 + 9
    assert 0.25 < time.monotonic() - began < 15
    assert guarded.exit()["signal"] == 9 and "reason" not in guarded.exit()
    assert "with SIGKILL, the grace of 0.3 s is over: " in guarded.log()
    assert guarded.alive() == []


@pytest.mark.parametrize("ending", ["exit 4", "sleep 985"])
def test_a_double_forked_grandchild_in_a_session_of_its_own_is_gone_at_the_end(guarded: Guarded, ending: str) -> None:
    process = guarded.shell(f"{HIDDEN}; echo ready; {UNTIL_GO}; {ending}", options=("--grace", "0.2"))
    pid = hidden(guarded)
    guarded.until(lambda: guard.name(pid) == "sleep")
    assert not gone(pid)
    guarded.until("ready")
    guarded.go()
    if ending != "exit 4":
        process.terminate()
    guarded.code()
    assert gone(pid)
    assert f"sleep ({pid})" in guarded.log()
    assert guarded.exit()["code"] == (4 if ending == "exit 4" else None)


def test_helpers_that_end_by_themselves_are_not_killed(guarded: Guarded, tmp_path: Path) -> None:
    for own in Path(guard.__file__).parent.glob("guard*.py"):
        (tmp_path / own.name).write_text(own.read_text().replace("LINGER = 0.5", "LINGER = 30.0"))
    patient = tmp_path / "guard.py"
    guarded.program = str(patient)
    guarded.shell("sleep 0.2 & exit 0")
    assert guarded.code() == 0
    assert "killed" not in guarded.log()


def test_a_process_outside_the_tree_is_found_by_its_mark(guarded: Guarded) -> None:
    with subprocess.Popen(["sleep", "984"], env=os.environ | {"TRAINYARD_RUN": f"{guarded.uid}.1.0"}) as stranger:
        other = subprocess.Popen(["sleep", "0.8"], env=os.environ | {"TRAINYARD_RUN": f"{guarded.uid}.1.01"})
        guarded.shell("exit 0")
        assert stranger.wait(60) == -9
        assert guarded.code() == 0
        assert other.wait() == 0


def test_the_ranks_get_the_signals_and_neither_launcher_nor_helpers(guarded: Guarded) -> None:
    launcher = "trap 'echo launcher was hit' TERM USR1; "
    launcher += 'for r in 0 1; do RANK=$r setsid sh -c "$PROGRAM" & done; wait; sleep 0.1; exit 75'
    process = guarded.shell(launcher, PROGRAM=RANK)
    guarded.until("rank 0 ready")
    guarded.until("rank 1 ready")
    process.send_signal(signal.SIGUSR1)
    guarded.until("rank 0 got USR1")
    guarded.until("rank 1 got USR1")
    process.terminate()
    assert guarded.code() == 75, guarded.log()
    assert guarded.log().count("got TERM") == 2
    assert "was hit" not in guarded.log()


def test_a_killed_guard_leaves_a_free_lock_and_a_run_that_can_be_found_and_ended(guarded: Guarded) -> None:
    process = guarded.shell("trap '' TERM; echo ready; (setsid sleep 983 &); sleep 982")
    guarded.until("ready")
    guarded.until(lambda: sorted(map(guard.name, guarded.alive())) == ["sh", "sleep", "sleep"])
    process.kill()
    process.wait()
    with (guarded.folder() / "lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not (guarded.folder() / "exit.json").exists()
    assert len(guarded.alive()) == 3
    ended = subprocess.run(
        [sys.executable, "-I", "-S", guard.__file__, "--end", f"{guarded.uid}.1.0", "--grace", "0.2"]
    )
    assert ended.returncode == 0
    assert guarded.alive() == []


def test_ending_an_orphan_lets_it_save_within_the_grace(guarded: Guarded) -> None:
    process = guarded.shell("trap 'sleep 0.1; echo saved; exit 75' TERM; echo ready; while :; do sleep 0.02; done")
    guarded.until("ready")
    process.kill()
    process.wait()
    assert guard.end_run(f"{guarded.uid}.1.0", grace=60) >= 1
    assert guarded.log().endswith("saved\n")
    assert guard.end_run(f"{guarded.uid}.1.0") == 0


def test_a_storm_of_forks_ends(guarded: Guarded) -> None:
    storm = "n=$1; while [ $n -gt 0 ]; do n=$((n-1)); (sleep 0.5; sleep 981) & done; echo ready; wait"
    process = guarded.start("sh", "-c", storm, "storm", "60", options=("--grace", "0"))
    guarded.until("ready")
    process.terminate()
    guarded.code()
    assert guarded.alive() == []
    assert guarded.exit()["signal"] in (9, 15)


@pytest.mark.slow
def test_a_log_past_its_limit_is_cut_while_the_program_writes(guarded: Guarded) -> None:
    script = "for i in 1 2 3 4 5 6; do head -c 300000 /dev/zero | tr '\\0' x; echo; sleep 0.4; done; "
    guarded.shell(script + f"{UNTIL_GO}; echo the end", options=("--log-limit", "500000"))
    log = guarded.job / "train.log"
    guarded.until(lambda: log.exists() and log.stat().st_size > 1_800_000 and log.stat().st_blocks * 512 < 1_000_000)
    guarded.go()
    assert guarded.code() == 0
    assert log.stat().st_blocks * 512 < 1_000_000
    assert guarded.log().startswith("── attempt 1.0 ── ")
    assert "over its limit of 500000 bytes: bytes 122880 to " in guarded.log()
    assert guarded.log().endswith("the end\n")


def test_on_a_full_disk_it_still_kills_and_writes_the_outcome(guarded: Guarded) -> None:
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*mount, "mount -t tmpfs none /mnt"], capture_output=True).returncode:
        pytest.skip("no mounts in a user namespace here")
    spec = (guarded.job / "spec.json").read_text()
    inside = 'mount -t tmpfs -o size=64k none /mnt && mkdir /mnt/job && echo "$SPEC" > /mnt/job/spec.json && '
    inside += '"$@"; cat /mnt/job/attempts/1.0/exit.json'
    fill = f"{HIDDEN}; cat /dev/zero > /mnt/job/filler; cat /dev/zero; trap '' TERM; kill -TERM $PPID; sleep 980"
    own = [sys.executable, "-I", "-S", guard.__file__, "--grace", "0.2", "/mnt/job", "1", "--", "sh", "-c", fill]
    done = subprocess.run([*mount, inside, "sh", *own], env=os.environ | {"SPEC": spec}, capture_output=True, text=True)
    assert '"signal": 9' in done.stdout, done.stderr
    assert re.search(r", the grace of 0.2 s is over: [^\n]*\bsh \(", done.stderr), done.stderr
    assert "No space left on device" in done.stderr
    assert guarded.alive() == []
