"""`album`: real picture files; `Means`: an encoder that is quick and looks at every pixel; `Hands`: of prompts."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainyard.trainer.diffusion.data.picture import Frame, Picture

Album = Callable[..., list[Picture]]


@pytest.fixture
def album(tmp_path: Path) -> Album:
    def make(
        count: int, *, dataset: str = "photos", size: tuple[int, int] = (32, 16), captions: Sequence[str] = ("words",)
    ) -> list[Picture]:
        folder = tmp_path / dataset
        folder.mkdir(exist_ok=True)
        found = []
        for n in range(count):
            path = folder / f"{size[0]}x{size[1]}-{n}.png"
            values = np.random.default_rng([n, *size]).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(values).save(path)
            frame = Frame(size, size, 0, 0, *size)
            sha = hashlib.sha256(path.read_bytes()).hexdigest()
            found.append(Picture(dataset, path, sha, frame, tuple(f"{c} {n}" for c in captions)))
        return found

    return make


class Means:
    """Places of 8 × 8 pixels become their mean colours."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.closed = 0

    def encode(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        self.batches.append(len(pixels))
        batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()
        return torch.nn.functional.avg_pool2d(batch, 8).bfloat16()

    def close(self) -> None:
        self.closed += 1


class Letters:
    """A prompt becomes its letters; more than sixteen are cut."""

    key = "letters"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode(self, prompts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        self.batches.append(list(prompts))
        return [{"letters": torch.tensor([ord(c) for c in p.ljust(16)[:16]]).float()} for p in prompts]

    def cut(self, prompt: str) -> int:
        return max(0, len(prompt) - 16)


@pytest.fixture
def means() -> Means:
    return Means()


@pytest.fixture
def letters() -> Letters:
    return Letters()
