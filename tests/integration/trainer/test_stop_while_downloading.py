"""A stop ends a download at once, whoever downloads."""

import time

import pytest

from tests.hub import hub_server

pytestmark = pytest.mark.slow


@pytest.fixture
def hub(tmp_path, tiny_model, monkeypatch):
    with hub_server() as made:
        made.add("owner/tiny", tiny_model)
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield made


def test_a_model_of_the_hub_is_trained(job, hub):
    job.base["model_name"] = "owner/tiny"
    job.tuning["max_steps"] = 1
    assert job.run() == 0, job.log


def test_a_stop_does_not_wait_for_the_hub(job, hub):
    job.base["model_name"] = "owner/tiny"
    hub.seconds_a_block = 1.0
    child = job.start()
    late = time.monotonic() + 200
    while not hub.got("model.safetensors"):
        assert child.poll() is None and time.monotonic() < late, job.log
        time.sleep(0.05)
    began = time.monotonic()
    job.command(id="c1", command="stop", why="a test")
    assert child.wait(timeout=200) == 76, job.log
    assert time.monotonic() - began < 20
