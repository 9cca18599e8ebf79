"""What every way of training a denoiser has: parameters by name, files to go on from, files to hand out."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file

#: What is trained, by its names in the denoiser: an adapter's own files have other names, and not every precision.
TRAINED = "trained.safetensors"


class Trained(Protocol):
    """The trained part of a denoiser."""

    @property
    def denoiser(self) -> Any:
        """With the trained part in it; what a family's `predict` is given."""
        ...

    @property
    def network(self) -> Any:
        """A LyCORIS network, whose parameters are not the denoiser's own; of others None."""
        ...

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """What the optimizer moves, by name, in an order that does not change."""
        ...

    def save(self, folder: Path) -> None:
        """Into a checkpoint: for `load`, and for stock loaders."""
        ...

    def load(self, folder: Path) -> None:
        """What `save` wrote, bit for bit."""
        ...

    def write(self, folder: Path) -> None:
        """The result alone, as the stock loader reads it."""
        ...


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """As they are, from whatever device."""
    save_file({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}, path)


def load_into(parameters: Mapping[str, torch.Tensor], paths: Iterable[Path]) -> None:
    """Copy what the files hold into tensors of these names, in place.

    Raises `ValueError` where names or shapes are others.
    """
    lacking = set(parameters)
    for path in paths:
        for name, tensor in load_file(path).items():
            if name not in parameters:
                raise ValueError(f"{name} of the checkpoint is not in what is trained")
            if parameters[name].shape != tensor.shape:
                shapes = tuple(tensor.shape), tuple(parameters[name].shape)
                raise ValueError(f"{name} is of shape {shapes[0]} in the checkpoint, {shapes[1]} in what is trained")
            parameters[name].detach().copy_(tensor)
            lacking.discard(name)
    if lacking:
        raise ValueError(f"{min(lacking)} and {len(lacking) - 1} more are not in the checkpoint")
