"""`examples/demo`, as `make demo` runs it: what it shows, what it leaves, and that Ctrl-C leaves nothing running."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_COMMAND = [sys.executable, "examples/demo", "--quick", "--folder"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both demos keep their model: the second one finds it made."""
    return tmp_path_factory.mktemp("the demo's 'own' folder")


@pytest.fixture
def made_before(folder: Path) -> bool:
    """Whether the other demo was shown by this worker, and has made the model."""
    return any(folder.glob("tiny-llama-*"))


@pytest.fixture
def started(folder: Path, made_before: bool) -> Iterator[subprocess.Popen[str]]:
    environ = os.environ | {"TRAINYARD_TOKEN": "of another service", "TRAINYARD_PORT": "1"}
    command = [*_COMMAND, str(folder)]
    with subprocess.Popen(command, cwd=_CHECKOUT, env=environ, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def processes_of(folder: Path) -> list[str]:
    """Every process that names the demo's folder, or is part of a run of one of its jobs."""
    jobs = {path.parent.name for path in folder.glob("server/jobs/*/spec.json")}
    found = []
    for process in Path("/proc").iterdir():
        try:
            line, environ = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
        except (OSError, NotADirectoryError):
            continue
        job = re.search(rb"TRAINYARD_JOB_ID=([^\0]*)", environ)
        is_run = b"TRAINYARD_RUN=" in environ and job is not None and job[1].decode() in jobs
        if os.fsencode(folder) in line or is_run:
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def left(folder: Path) -> list[str]:
    """Which of them stay; what has told its end may take a moment to be gone."""
    until = time.monotonic() + 10
    while (found := processes_of(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def test_the_demo_shows_two_jobs_from_their_documents_to_an_adapter_that_loads(
    started: subprocess.Popen[str], folder: Path
) -> None:
    shown = started.communicate()[0]
    assert started.returncode == 0, shown
    for job in ("demo-handbook-", "demo-instruct-"):
        part = shown[shown.index(f"\n{job}") :].partition("\n  held-out loss")[0]
        for kind in ("queued", "submitted", "running", "checkpoint", "succeeded"):
            assert re.search(rf"s  event +\d+  {kind} ", part), f"{kind} of {job} came by SSE:\n{part}"
            assert re.search(rf"s  webhook +\d+  {kind} ", part), f"{kind} of {job} came by webhook:\n{part}"
        assert re.search(r"step \d+/\d+  loss \d+\.\d+  [\d,]+ tokens/s  eta \d+ s", part), part
    losses = re.findall(r"held-out loss\n +before +([\d.]+)\n +after +([\d.]+)", shown)
    assert len(losses) == 2 and all(float(after) < float(before) for before, after in losses), losses
    assert len(re.findall(r"  Q: .*\n +before .*\n +after ", shown)) == 2, "what each model says, before and after"
    assert "\x1b[" not in shown, "a file gets plain lines"
    assert not left(folder)
    said = subprocess.run([sys.executable, folder / "ask.py"], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and said.stdout.startswith("Q: What is a loss mask?\nA:"), said


def test_ctrl_c_in_the_middle_of_training_leaves_nothing_running(
    started: subprocess.Popen[str], made_before: bool, folder: Path
) -> None:
    assert started.stdout is not None
    shown = ""
    for line in started.stdout:
        shown += line
        if re.search(r"step \d+/\d+", line):
            break
    assert ("making a tiny Llama" in shown) is not made_before, "the model of the first demo is kept"
    assert any("trainyard.trainer" in line for line in processes_of(folder)), "the job is training"
    began = time.monotonic()
    started.send_signal(signal.SIGINT)
    rest = started.communicate(timeout=300)[0]
    assert started.returncode == 128 + signal.SIGINT, shown + rest
    assert re.search(r"demo-handbook-\S+: cancelled", rest), rest
    assert time.monotonic() - began < 60
    assert not left(folder)
