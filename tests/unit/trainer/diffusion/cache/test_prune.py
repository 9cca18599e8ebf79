"""What no job wanted for a while can be removed, and nothing else."""

import os
import time
from pathlib import Path

import torch

from trainyard.trainer.diffusion.cache.prune import prune
from trainyard.trainer.diffusion.cache.shelf import Shelf, digest

DAY = 86_400


def test_what_was_not_wanted_for_so_many_days_goes_and_the_rest_stays(tmp_path: Path) -> None:
    names = [digest(name) for name in ("old", "new", "wanted")]
    shelf = Shelf(tmp_path / "photos", "latents", "vae")
    with shelf.making():
        for name in names:
            shelf.write(name, {"latents": torch.zeros(4)})
    foreign = tmp_path / "ab" / "cd" / "model.safetensors"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"somebody else's")
    for path in (shelf.path(names[0]), shelf.path(names[2]), foreign):
        os.utime(path, (time.time() - 40 * DAY,) * 2)
    assert shelf.notes(names[2]) is not None, "a job that starts wants it"
    removed = prune(tmp_path, 30)
    assert removed.files == 1 and removed.bytes > 16
    assert [shelf.notes(name) is not None for name in names] == [False, True, True] and foreign.exists()
