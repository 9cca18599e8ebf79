"""One optimizer step: forward and backward in micro batches, then the update, or nothing at all."""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from attrs import frozen
from torch.nn.parallel import DistributedDataParallel

from trainyard.trainer.diffusion.data.batch import Batch
from trainyard.trainer.diffusion.data.epochs import Epochs
from trainyard.trainer.diffusion.families.family import Family, Shown
from trainyard.trainer.diffusion.job import Job
from trainyard.trainer.diffusion.loss import loss
from trainyard.trainer.diffusion.memory.gauge import Gauge
from trainyard.trainer.diffusion.model import Precision, Trained
from trainyard.trainer.diffusion.noise import Noise
from trainyard.trainer.diffusion.state import Position
from trainyard.trainer.generators import Generators
from trainyard.trainer.numbers import Gradient, numbers
from trainyard.trainer.processes import World

_SEED_BITS = 63


class Forward(torch.nn.Module):
    """What the denoiser says of what it is shown, as a module: so that several processes can share its gradients."""

    def __init__(self, family: Family, trained: Trained) -> None:
        super().__init__()
        self._family = family
        self.denoiser, self.network = trained.denoiser, trained.network

    def forward(self, shown: Shown) -> torch.Tensor:
        """(b, c, h, w), as `Family.predict`."""
        return self._family.predict(self.denoiser, shown)


def shared(forward: torch.nn.Module, world: World) -> torch.nn.Module:
    """The same, where there are several processes so that they take the mean of their gradients.

    Parameters that are frozen, and buffers, every process has read from the same files: they are not sent around.
    """
    if world.size == 1:
        return forward
    trained = {name for name, parameter in forward.named_parameters() if parameter.requires_grad}
    rest = {name for name, _ in (*forward.named_parameters(), *forward.named_buffers())} - trained
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(forward, rest)
    return DistributedDataParallel(forward, device_ids=[world.device] if world.device.type == "cuda" else None)


@frozen
class Learned:
    """The newest batch that had a loss, in the step that came after `step`: a sound model still gives it one."""

    batches: Sequence[Batch]
    step: int


@frozen(kw_only=True)
class Step:
    """Takes a batch to its gradient, and a gradient into the parameters."""

    job: Job
    world: World
    noise: Noise
    epochs: Epochs
    #: `Forward`, or several processes' wrapper of it.
    forward: Any
    precision: Precision
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    parameters: Sequence[torch.nn.Parameter]
    gauge: Gauge

    def gradient(self, batches: Sequence[Batch], position: Position) -> Gradient | None:
        """The gradient of a step, left on the parameters; None when a stop came between two micro batches.

        Where it is None or lost, parameters and generators are as if the step had never begun.
        """
        self.gauge.begin()
        before = Generators.now()
        found = self._backward(batches, position)
        if found is None or found.lost:
            self.optimizer.zero_grad(set_to_none=True)
            before.restore()
        return found

    def apply(self, gradient: Gradient, rate: float) -> None:
        """Take the step at a learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        most = self.job.options.max_grad_norm
        if most > 0 and self.job.options.grad_clip_method == "value":
            torch.nn.utils.clip_grad_value_(self.parameters, most)
        elif 0 < most < gradient.norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, most, gradient.size)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.gauge.read()

    def sound(self, learned: Learned | None) -> bool:
        """Whether the trained parameters are numbers, and give the first micro batch a loss that is one.

        A step may spoil them whose own loss and gradient were good; None: there was no step. Every process calls it.
        """
        if learned is None:
            return True
        self.forward.eval()
        try:
            with torch.no_grad():
                found = self._loss(learned.batches[0], learned.step, 0)
        finally:
            self.forward.train()
        good = math.isfinite(self.world.total(found).item()) and numbers(self.parameters)
        return not self.world.any(not good)[0]

    def _backward(self, batches: Sequence[Batch], position: Position) -> Gradient | None:
        """Each part counts by its share of the whole step's pictures: neither accumulation nor processes change what is
        learned. Processes take the mean of their gradients, so each weighs its own by their number.
        """
        world = self.world
        pictures = self.epochs.samples(position.epoch, position.index)
        value = torch.zeros((), device=world.device)
        for number, batch in enumerate(batches):
            if number and self.job.run.control.agree(world)[0]:
                return None
            with self._exchanged(last=number == len(batches) - 1):
                part = self._loss(batch, position.step, number) * (len(batch.drawn) * world.size / pictures)
                self.scaler.scale(part).backward()
            value += part.detach()
        value = world.total(value) / world.size
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        size = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return Gradient.of(value, size, self.scaler)

    def _loss(self, batch: Batch, step: int, number: int) -> torch.Tensor:
        """The mean loss of a micro batch. Its noise follows from the seed, the step and its place in the step."""
        place = number * self.world.size + self.world.rank
        generator = _generator(self.job.seed, step, place)
        noised = self.noise.draw(batch.latents.float(), generator, step=step)
        shown = Shown(
            latents=noised.latents,
            timesteps=noised.timesteps,
            texts=batch.texts,
            sizes=batch.sizes,
            references=batch.references,
            guidance=self.job.family.guidance(self.job.options, len(batch.drawn), generator),
        )
        with self.precision.autocast(self.world.device):
            predicted = self.forward(shown)
        return loss(predicted, noised, self.job.options)

    def _exchanged(self, last: bool) -> AbstractContextManager[object]:
        """Gradients go to the other processes with the last micro batch of a step."""
        shared = isinstance(self.forward, DistributedDataParallel)
        return self.forward.no_sync() if shared and not last else nullcontext()


def _generator(seed: int, step: int, place: int) -> torch.Generator:
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xC2B2AE3D27D4EB4F + place * 0x165667B19E3779F9) % (1 << _SEED_BITS)
    return torch.Generator().manual_seed(mixed)
