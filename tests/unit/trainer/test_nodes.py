"""A run on several machines: which processes are whose, and what a scheduler gave."""

import json
import os
import subprocess
import sys

import pytest

from common.folder import STACKS, JobFolder, Pair
from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.launch import _Warden
from trainyard.trainer.nodes import Rendezvous, start


@pytest.fixture
def claim(tmp_path):
    return Claim(JobFolder(tmp_path), "ab", Pair(1), tmp_path)


def write(claim, **values):
    document = {"format": 1, "uid": "ab", "job_id": "j", "engine": "text", "request": {}, "output": "/out"}
    claim.folder.spec.write_text(json.dumps(document | values))
    return Spec.read(claim)


def test_processes_are_those_of_all_machines_and_threads_those_of_each(claim, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    spec = write(claim, devices=[], threads=4, options={"nodes": 3, "processes": 2})
    assert (spec.nodes, spec.on_each, spec.processes, spec.threads) == (3, 2, 6, 2)
    assert write(claim, devices=["0"], threads=1, options={}).processes == 1


def test_devices_that_a_scheduler_chose_are_read_from_the_environment(claim, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-7")
    assert write(claim, devices=None).devices == ("2", "GPU-7")
    assert write(claim, devices=[]).devices == ()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert write(claim, devices=None).devices == ()


def test_a_machine_looks_after_its_own_processes_and_hears_of_the_others_ends(ranks):
    for rank in range(4):
        (ranks.folder / f"{rank}.pid").write_text(str(os.getpid() + rank))
    warden = _Warden(ranks, 2, Rendezvous(1, 2, "127.0.0.1", 1))
    assert set(warden._known()) == {2, 3}
    assert warden._elsewhere() is None
    ranks.leave(0, 71, "out of memory")
    ranks.name_first(ranks.earliest())
    warden._looked = 0.0
    assert str(warden._elsewhere()) == "process 0: out of memory"


def test_what_begins_the_other_machines_carries_no_secret(claim, tmp_path, monkeypatch):
    secrets = {"env": {"HF_TOKEN": "hf_x", "OMP_NUM_THREADS": "9"}, "job_token": "jt_x", "events_url": "http://here"}
    claim.folder.secrets(1).write_text(json.dumps(secrets))
    (tmp_path / "srun").write_text(
        f"#!/bin/sh\n{sys.executable} -c 'import os; print(dict(os.environ))' > {tmp_path}/env"
    )
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    present = {"HF_TOKEN": "hf_x", "TRAINYARD_JOB_TOKEN": "jt_x", "MODULES": "cuda", "OMP_NUM_THREADS": "2"}
    for name, value in present.items():
        monkeypatch.setenv(name, value)
    assert start(claim, write(claim, options={"nodes": 2}), lambda _: None) == 0
    carried = (tmp_path / "env").read_text()
    assert "'MODULES': 'cuda'" in carried
    assert "'OMP_NUM_THREADS': '2'" in carried, "what the guard set over it is no secret"
    assert "hf_x" not in carried
    assert "jt_x" not in carried


def test_a_machine_without_a_guard_passes_the_wish_for_stacks_to_its_processes(ranks):
    waits = (
        "import os, signal, time; signal.signal(12, lambda *_: (print('asked', flush=True), os._exit(0)))\n"
        "print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        (ranks.folder / "1.pid").write_text(str(process.pid))
        (ranks.folder / STACKS).touch()
        first, second = (_Warden(ranks, 1, Rendezvous(node, 2, "127.0.0.1", 1)) for node in (0, 1))
        for warden in (first, second):
            warden._elsewhere()
        assert (first._wishes, len(second._wishes)) == ([], 1)
        second.take(0.01)
        assert process.stdout.readline() == "asked\n"
        second._looked = 0.0
        second._elsewhere()
        assert second._wishes == [], "once is enough"
