"""A running mean of the weights, which often makes better pictures than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion.model.trained import load_into, save_tensors

FILE = "ema.safetensors"


class Average:
    """The mean of parameters over the steps, in fp32: of each update `decay` is kept and the rest is new.

    Through `warmup` steps it is the weights themselves. It lies on the CPU or beside the weights.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], decay: float, every: int, warmup: int, device: torch.device
    ) -> None:
        self._parameters, self._decay, self._every, self._warmup = parameters, decay, every, warmup
        self._mean = {n: p.detach().to(device, torch.float32, copy=True) for n, p in parameters.items()}

    @classmethod
    def of(cls, parameters: Mapping[str, torch.nn.Parameter], options: Options, device: torch.device) -> "Average":
        """As the options say."""
        lies_on = device if options.ema_device == "accelerator" else torch.device("cpu")
        return cls(parameters, options.ema_decay, options.ema_update_interval, options.ema_warmup_steps, lies_on)

    @property
    def bytes(self) -> int:
        """What it takes, in memory as in a checkpoint."""
        return sum(mean.numel() * mean.element_size() for mean in self._mean.values())

    def update(self, step: int) -> None:
        """Step number `step` (1 is the first) was taken."""
        if step % self._every and step > self._warmup:
            return
        new = 1.0 if step <= self._warmup else 1.0 - self._decay
        for name, mean in self._mean.items():
            mean.lerp_(self._parameters[name].detach().to(mean), new)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The parameters hold the mean, and afterwards again what they held."""
        kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._show(self._mean)
        try:
            yield
        finally:
            self._show(kept)

    def save(self, folder: Path) -> None:
        """Into a checkpoint."""
        save_tensors(self._mean, folder / FILE)

    def load(self, folder: Path) -> None:
        """What `save` wrote."""
        load_into(self._mean, [folder / FILE])

    def _show(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.detach().copy_(values[name])
