"""A disk that fills up while a checkpoint is written: the run says so, and goes on from the one before."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.trainer.conftest import Job
from tests.tiny import make_tiny_llama
from trainyard.trainer.checkpoints import complete

pytestmark = pytest.mark.slow
MOUNT = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
# The output is a small disk of its own, which nobody else sees; what is left on it is copied away at the end.
INSIDE = (
    'mount -t tmpfs -o size={size} none "{output}" && {python} "$@"; code=$?; cp -r "{output}/." "{kept}"; exit $code'
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    if subprocess.run([*MOUNT, "mount -t tmpfs none /mnt"], capture_output=True).returncode:
        pytest.skip("no mounts in a user namespace here")
    made = Job(tmp_path / "job", make_tiny_llama(tmp_path / "model"))
    made.tuning |= {"max_steps": 6, "save_steps": 2, "save_total_limit": 5}
    made.options["spare_bytes"] = 0
    return made


def size_of(folder: Path) -> int:
    """In the blocks that it takes."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def test_a_disk_that_fills_up_in_the_middle_leaves_the_checkpoint_before_and_says_so(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job.tuning["max_steps"] = 2
    assert job.run("1.0") == 0, job.log
    one = size_of(job.output / "checkpoints" / "step-2")
    shutil.rmtree(job.output)
    job.output.mkdir()

    kept, around = tmp_path / "kept", tmp_path / "small-disk"
    kept.mkdir()
    # Room for one and much of another: more than an adapter is known to need, less than it takes with its tokenizer.
    words = {"size": int(one * 1.8), "output": job.output, "kept": kept, "python": sys.executable}
    around.write_text(f"#!/bin/sh\nexec {' '.join(MOUNT)} '{INSIDE.format(**words)}' sh \"$@\"\n")
    around.chmod(0o755)
    job.tuning["max_steps"] = 6
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(around))
        assert job.run("2.0") == 74, job.log
    assert sorted(path.name for path in (kept / "checkpoints").iterdir()) == ["step-2"], "and nothing half-done"
    assert complete(kept / "checkpoints" / "step-2")
    (told,) = [data for data in job.events("log", "2.0") if data.get("level") == "error"]
    assert told["message"].startswith("no disk space: ") and told["exit_code"] == 74
    assert [data["step"] for data in job.events("checkpoint", "2.0")] == [2]
    assert "trainyard: disk_full (74): no disk space: " in job.log.splitlines()[-1]

    shutil.copytree(kept / "checkpoints", job.output / "checkpoints")
    assert job.run("3.0") == 0, job.log
    assert f"goes on from step 2: {job.output}/checkpoints/step-2" in job.log
