"""Two real processes over gloo: one voice, one curve, and parameters that really are shares."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("two_processes.py")


@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_learn_what_one_does_in_copies_and_in_shards(tiny_model, method):
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(trainyard.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    launcher = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    argv = [*launcher, str(PROGRAM), str(tiny_model), method]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
