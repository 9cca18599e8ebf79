"""`python -m benchmarks.saving ORDER`: in a real run, what a checkpoint costs beside its bare saving; a JSON line.

The run comes to its first checkpoint; then, in turn, its state is saved by `save_pretrained` and `torch.save` alone,
by the trainer as it does beside the training, and by the trainer as it does when it must stop.
"""

import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.here import Here
from trainyard.trainer.text.keep import Keeper
from trainyard.trainer.text.state import Position


class Saver:
    """Saves the state of a run that stands still, in several ways, and loads it again; each returns seconds."""

    def __init__(self, keeper: Keeper, position: Position, folder: Path) -> None:
        self.keeper, self.position, self.folder = keeper, position, folder

    def bare(self) -> float:
        """Nothing is flushed, nothing is summed up, and a kill would leave half of it.

        The one before is there until the new one is, as everywhere where a run is to survive: what is removed first
        leaves its memory, warm, to what is written next.
        """
        old = self.folder.rename(self.folder.with_name("old")) if self.folder.exists() else None
        began = time.perf_counter()
        self.keeper.model.save_pretrained(self.folder)
        torch.save(self.keeper.optimizer.state_dict(), self.folder / "optimizer.pt")
        took = time.perf_counter() - began
        if old is not None:
            shutil.rmtree(old)
        return took

    def flushed(self) -> float:
        """As bare, and on the disk."""
        took, began = self.bare(), time.perf_counter()
        for path in self.folder.iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        return took + time.perf_counter() - began

    def beside(self) -> float:
        """What the loop waits for; the rest is waited for afterwards, uncounted."""
        return self._saved("step")

    def stopping(self) -> float:
        """Until it stands."""
        return self._saved("stop")

    def load(self) -> float:
        """What a resumed run reads in addition: the state of the optimizer, and the weights once more."""
        self.bare()
        began = time.perf_counter()
        for path in self.folder.glob("*.safetensors"):
            load_file(path)
        torch.load(self.folder / "optimizer.pt", weights_only=True)
        return time.perf_counter() - began

    def _saved(self, kind: str) -> float:
        self.position.step += 1
        began = time.perf_counter()
        self.keeper.save(self.position, kind)
        took = time.perf_counter() - began
        self.keeper.finish()
        return took


def measure(saver: Saver, rounds: int) -> dict[str, list[float]]:
    """Each way once a round, in an order drawn anew (each leaves its memory to the next); the first is not counted."""
    ways: Mapping[str, Callable[[], float]] = {
        way: getattr(saver, way) for way in ("bare", "beside", "stopping", "flushed", "load")
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in random.Random(number).sample(list(ways), len(ways)):
            seconds = ways[way]()
            if number:
                found[way].append(seconds)
    return found


def main(order: dict[str, Any]) -> None:
    """Train two steps, then measure in place of the first checkpoint."""
    folder = Path(order["folder"])
    here = Here(folder, Path(order["model"]))
    here.rows([json.loads(line) for line in Path(order["rows"]).read_text().splitlines()[:64]])
    here.custom = {"method": order["method"], "precision": "fp32"}
    here.tuning = {"max_steps": 2, "batch_size": 1, "micro_batch_size": 1, "save_total_limit": 1} | order["tuning"]
    save = Keeper.save

    def saved(self: Keeper, position: Position, kind: str) -> None:
        Keeper.save = save  # type: ignore[method-assign]
        torch.set_num_threads(order["threads"])
        found = measure(Saver(self, position, folder / "bare"), order["rounds"])
        parameters = sum(p.numel() for p in self.model.parameters())
        print(json.dumps({"seconds": found, "parameters": parameters}), flush=True)
        os._exit(0)

    Keeper.save = saved  # type: ignore[method-assign]
    here.train()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
