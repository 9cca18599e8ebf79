"""SIGTERM while the result is merged and written: the last checkpoint has it all, so the run leaves at once."""

import os
import signal
import time

import pytest

from trainyard.trainer.failures import StopNow

pytestmark = pytest.mark.slow


@pytest.fixture
def listening(here):
    """Its runs hear signals, as those of a guard do."""
    old = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)}
    run = here.run

    def heard():
        made = run()
        made.control.listen()
        return made

    here.run = heard
    yield here
    for number, handler in old.items():
        signal.signal(number, handler)


def test_it_is_answered_at_once_and_the_next_run_has_only_the_result_to_make(listening, monkeypatch):
    from trainyard.trainer.text import model as models

    here, reached = listening, []

    def stopped(*_):
        reached.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(120)

    here.tuning["max_steps"] = 1
    with monkeypatch.context() as patched:
        patched.setattr(models, "save_result", stopped)
        with pytest.raises(StopNow):
            here.train()
    assert time.monotonic() - reached[0] < 60
    assert here.steps == ["step-1"] and sorted(path.name for path in here.output.iterdir()) == [
        "checkpoints",
        "tensorboard",
    ]
    assert here.train().step == 1 and here.losses() == {}
    assert (here.output / "final" / "adapter_model.safetensors").is_file() and here.manifest["step"] == 1
