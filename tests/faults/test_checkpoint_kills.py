"""kill -9 at every point of a checkpoint's saving: the previous one or the new one is there, whole."""

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.folder import Pair
from tests.here import UID
from tests.tiny import make_tiny_llama
from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.generators import Generators
from trainyard.trainer.text.state import Position

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROGRAM = Path(__file__).with_name("killed_checkpoint.py")
KILLS = 12


class Saver:
    """A run that has saved step 2 and saves on order; before each order the output is as it was then."""

    def __init__(self, folder: Path, method: str) -> None:
        self.folder, self.output = folder, folder / "out"
        model = make_tiny_llama(folder / "model")
        argv = [sys.executable, str(PROGRAM), str(folder), str(model), method]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answered("ready")
        if method == "full":  # a damaged step 4 that will have to make way
            old = shutil.copytree(self.output / "checkpoints" / "step-2", self.output / "checkpoints" / "step-4")
            (old / "optimizer.pt").write_bytes(b"nothing")
        shutil.copytree(self.output, folder / "pristine")

    def order(self, text: str) -> str:
        shutil.rmtree(self.output)
        shutil.copytree(self.folder / "pristine", self.output)
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.answered()

    def answered(self, expected: str = "") -> str:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if not expected or line.strip() == expected:
                return line.strip()
        raise AssertionError(f"the saver left with {self.process.wait(60)}")

    def found(self) -> Checkpoint:
        """What the next attempt goes on from; it leaves nothing half-done."""
        later = Checkpoints(self.output, UID, Pair(3), lambda: None)
        later.claim()
        newest = later.newest()
        assert newest is not None
        names = [path.name for path in later.folder.iterdir()]
        assert all(name.removeprefix("step-").isdigit() for name in names), names
        return newest

    def end(self) -> None:
        self.process.communicate(timeout=120)


@pytest.fixture(scope="module", params=["lora", "full"])
def saver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saver]:
    made = Saver(tmp_path_factory.mktemp("saver"), request.param)
    yield made
    made.end()


def loads(found: Checkpoint) -> None:
    weights = [load_file(path) for path in found.path.glob("*.safetensors")]
    assert weights and all(tensor.isfinite().all() for tensors in weights for tensor in tensors.values())
    assert torch.load(found.path / "optimizer.pt", weights_only=True)["optimizer"]["state"]
    assert Position.of(found.record).step == found.step
    Generators.of(found.record["generators"])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "checkpoint.json"}


def test_wherever_a_kill_falls_the_previous_or_the_new_checkpoint_is_whole(saver: Saver) -> None:
    assert saver.order("at 0") == "survived"
    new, old = contents(saver.output / "checkpoints" / "step-4"), contents(saver.folder / "pristine/checkpoints/step-2")
    assert set(new) >= {"optimizer.pt", "tokenizer.json"}
    loads(saver.found())
    steps: list[int] = []
    while saver.order(f"at {len(steps) + 1}") == "killed":
        found = saver.found()
        assert contents(found.path) == (new if found.step == 4 else old), f"killed before call {len(steps) + 1}"
        steps.append(found.step)
    assert steps == sorted(steps) and set(steps) == {2, 4}, "from some call on it is the new one, and stays so"
    assert len(steps) > 50
    assert saver.found().step == 4


def test_after_kills_at_random_moments_the_newest_is_whole_and_none_that_was_told_is_lost(saver: Saver) -> None:
    chance = random.Random(5)
    for _ in range(KILLS):
        told = int(saver.order(f"after {chance.uniform(0.0, 0.4):.4f}"))
        found = saver.found()
        assert found.step in (told, told + 2)
        loads(found)
    assert json.loads((saver.output / "checkpoints" / f"step-{found.step}" / "checkpoint.json").read_text())["files"]
