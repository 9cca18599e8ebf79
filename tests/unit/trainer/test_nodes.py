"""A run on several machines: which processes are whose, and what a scheduler gave."""

import json
import os

import pytest

from common.folder import JobFolder, Pair
from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.launch import _Warden
from trainyard.trainer.nodes import Rendezvous
from trainyard.trainer.ranks import Ranks


@pytest.fixture
def claim(tmp_path):
    return Claim(JobFolder(tmp_path), "ab", Pair(1), tmp_path)


@pytest.fixture
def ranks(tmp_path):
    (tmp_path / "ranks").mkdir()
    return Ranks.of(tmp_path)


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
