"""A run whose output is a bucket: what people and scripts see of it before its end."""

from pathlib import Path
from typing import Any

import pytest

from trainyard.trainer.failures import Stopped

pytestmark = pytest.mark.slow


def in_bucket(job: Any, s3: Any, script: Path, lines: str, argument: Path, **options: Any) -> Any:
    """A job that shows a picture of one sampling step, and runs a script of these lines after each checkpoint."""
    script.write_text(f"#!/bin/sh\n{lines}\n")
    script.chmod(0o755)
    shown = {"validation_prompt": "a red circle", "validation_resolution": "32x32", "validation_num_inference_steps": 1}
    here = job("flux", checkpoint_step_interval=1, **shown, **options)
    here.options["post_checkpoint_script"] = f"'{script}' {{local_checkpoint_path}} '{argument}'"
    here.output, here.more = s3.uri("results/job-7"), {"spare_bytes": 0}
    return here


def check_picture(here: Any, s3: Any) -> None:
    """The one that was told of lies where that was said."""
    (told,) = here.events("validation")
    assert told["uri"] == s3.uri(f"results/job-7/{told['path']}")
    assert s3.get(f"results/job-7/{told['path']}").startswith(b"\x89PNG")


def test_a_script_may_read_its_checkpoint_for_a_while_after_the_training(job, s3, tmp_path):
    seen = tmp_path / "seen.json"
    here = in_bucket(job, s3, tmp_path / "late.sh", 'sleep 2\ncp "$1/checkpoint.json" "$2"', seen, max_train_steps=1)
    here.train()
    assert seen.is_file() and not (here.folder.path / "output").exists()
    check_picture(here, s3)


def test_pictures_of_a_run_that_was_stopped_are_there_too(job, s3, tmp_path):
    stop = """echo '{"format": 1, "attempt": "1.0", "id": "s", "command": "stop"}' >> "$2\""""
    control = tmp_path / "a" / "job" / "control.jsonl"
    here = in_bucket(job, s3, tmp_path / "stop.sh", stop, control, max_train_steps=2000, disable_benchmark=False)
    with pytest.raises(Stopped):
        here.train()
    check_picture(here, s3)
