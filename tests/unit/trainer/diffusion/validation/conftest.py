"""`run`: a run over a claimed attempt, as the loop is given it; nothing is trained."""

import sys

import pytest
from attrs import evolve

from tests.tiny_diffusion import shared_tiny
from tests.unit.trainer.diffusion.validation.studio import Studio, gallery
from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.run import Run
from trainyard.trainer.secrets import Secrets


@pytest.fixture(autouse=True)
def hub(monkeypatch, tmp_path):
    """An empty cache of a hub that may not be asked: its folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def run(attempt, tmp_path):
    output = tmp_path / "an output's folder"
    output.mkdir()
    claim = Claim(attempt.folder, "5e" * 16, attempt.pair, attempt.own)
    spec = Spec(
        uid=claim.uid,
        job_id="job-1",
        engine="diffusion",
        request={},
        output=output,
        remote=None,
        devices=(),
        threads=1,
        changes=(),
        options={},
    )
    return Run(claim, attempt.fence, attempt.report, attempt.control, Secrets(), spec)


@pytest.fixture
def with_secrets(run, monkeypatch):
    """The same run with secrets, which its own environment has too, as a guard puts them there."""
    monkeypatch.setenv("FAL_SERVICE", "s3cret-of-the-caller")
    monkeypatch.setenv("SOURCE", "https://user:s3cret-of-the-caller@example.org/")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "ROLE_NAME", "TRAINYARD_LAUNCHED"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("TRAINYARD_ATTEMPT_DIR", str(run.claim.own))
    monkeypatch.setenv("TRAINYARD_RUN", f"{run.claim.uid}.{run.claim.pair}")
    monkeypatch.setenv("PLAIN", "seen")
    return evolve(run, secrets=Secrets.of({"values": {}, "env": {"FAL_SERVICE": "s3cret-of-the-caller"}}))


@pytest.fixture
def program(tmp_path):
    """Make a program of some lines of Python; what runs it."""

    def make(body, name="a program"):
        path = tmp_path / name
        path.write_text(f"#!{sys.executable}\nimport os, sys, time, json, signal, pathlib\n{body}\n")
        path.chmod(0o755)
        return f"'{path}'"

    return make


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    return gallery(tmp_path_factory.mktemp("pictures") / "set")


@pytest.fixture
def new_studio(run, pictures, tmp_path_factory):
    """Make a studio over a tiny model of a family."""

    def make(family="flux", shape=None, **given):
        return Studio(shared_tiny(family, tmp_path_factory, **(shape or {})), pictures, run, family, **given)

    return make


@pytest.fixture
def studio(new_studio):
    return new_studio()
