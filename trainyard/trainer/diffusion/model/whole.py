"""A full fine-tune: every weight of the denoiser is trained, and the result is a whole model."""

import shutil
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.model.trained import load_into
from trainyard.trainer.diffusion.weights import Weights

_INDEX = "model_index.json"


@frozen
class Whole:
    """See `trained.Trained`."""

    denoiser: Any
    family: Family
    weights: Weights
    network: None = None

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `trained.Trained`."""
        return dict(self.denoiser.named_parameters())

    def save(self, folder: Path) -> None:
        """As a component of a diffusers folder."""
        self.denoiser.save_pretrained(folder / self.family.part)

    def load(self, folder: Path) -> None:
        """See `trained.Trained`; what is no parameter follows from the configuration."""
        tensors = dict(self.denoiser.state_dict(keep_vars=True))
        load_into(tensors, sorted((folder / self.family.part).glob("*.safetensors")))

    def write(self, folder: Path) -> None:
        """A diffusers folder: the trained denoiser among the other components as they were."""
        for part, kind in self.weights.index().items():
            source = self.weights.at(part)
            if part.startswith("_") or part == self.family.part or source is None or not kind[0]:
                continue
            shutil.copytree(source, folder / part)
        (folder / _INDEX).write_bytes((self.weights.root / _INDEX).read_bytes())
        self.save(folder)
