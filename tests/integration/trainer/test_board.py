"""TensorBoard files are written while the run goes on, and a resumed run goes on in the same folder."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def scalars(folder):
    """Every scalar as {tag: {step: value}}, the later files over the earlier ones, by the format itself."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    found, began = {}, []
    for path in sorted(folder.glob("*.tfevents.*"), key=lambda p: p.name.rpartition(".tfevents.")[2].split(".")[-2:]):
        raw, at = path.read_bytes(), 0
        while at < len(raw):
            (length,) = struct.unpack_from("<Q", raw, at)
            event = Event.FromString(raw[at + 12 : at + 12 + length])
            at += 16 + length
            if event.HasField("session_log"):
                began.append(event.step)
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found, began


def test_every_number_that_is_told_is_on_the_board_over_all_attempts(here):
    here.tuning |= {"eval_ratio": 0.1, "save_steps": 3}
    here.train()
    (here.output / "checkpoints" / "step-6").rename(here.output / "checkpoints" / "step-6.old-1.0")
    found, began = scalars(here.output / "tensorboard")
    assert set(found) == {"loss", "learning_rate", "grad_norm", "tokens_per_second", "eval_loss"}
    assert found["loss"] == {step: pytest.approx(loss) for step, loss in here.losses().items()}
    assert list(found["eval_loss"]) == [0, 6] and began == []

    here.train()
    again, began = scalars(here.output / "tensorboard")
    assert began == [4] and again["loss"].keys() == found["loss"].keys()
    assert len(list((here.output / "tensorboard").iterdir())) == 2


def test_tensorboardx_is_not_imported_before_there_is_a_number():
    code = "import sys; from trainyard.trainer.board import Board; sys.exit('tensorboardX' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
