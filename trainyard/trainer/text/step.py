"""One optimizer step: forward and backward in micro batches, then the update, or nothing at all."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from attrs import frozen

from trainyard.trainer.generators import Generators
from trainyard.trainer.numbers import Gradient, numbers
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run
from trainyard.trainer.text import model as models
from trainyard.trainer.text.at_once import AtOnce
from trainyard.trainer.text.loss import Loss
from trainyard.trainer.text.sharding import exchanged
from trainyard.trainer.text.tokens.batches import blank, collate, dealt
from trainyard.trainer.text.tokens.examples import Example

Sequences = Sequence[Sequence[Example]]


@frozen
class Step:
    """Takes a batch to its gradient, and a gradient into the parameters."""

    run: Run
    loss: Loss
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    parameters: Sequence[torch.Tensor]
    max_grad_norm: float
    micro: AtOnce
    pad: int
    packed: bool
    world: World
    #: Some adapters take part in a step: `models.before_step`, `models.after_step`.
    model: Any

    def gradient(self, batch: Sequences) -> Gradient | None:
        """The gradient of a batch, left on the parameters; None when a stop came between two micro batches.

        Where it is None or lost, parameters and generators are as if the step had never begun.
        """
        before = Generators.now()

        def undo() -> None:
            self.optimizer.zero_grad(set_to_none=True)
            before.restore()

        if self.world.size == 1:
            found = self.micro.attempt(len(batch), lambda rows: self._backward(batch, rows), undo)
        else:
            most = -(-len(batch) // self.world.size)
            found = self.micro.together(most, lambda rows: self._backward(batch, rows), self.run.report.step)
        if found is None or found.lost:
            undo()
        return found

    def apply(self, gradient: Gradient, rate: float, number: int) -> None:
        """Take step `number` at a learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if 0 < self.max_grad_norm < gradient.norm:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.max_grad_norm, gradient.size)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if not math.isfinite(gradient.norm):  # the loss scale overflowed: the step was skipped, and teaches nothing
            for p in self.parameters:
                p.grad = None if p.grad is None else p.grad.zero_()
        models.after_step(self.model, number)
        self.optimizer.zero_grad(set_to_none=True)

    def sound(self, batch: Sequences | None) -> bool:
        """Whether the trained parameters are numbers, and give the first sequence of a batch a loss that is one.

        A step may spoil them whose own loss and gradient were good; None: there was no step. Every process calls it.
        """
        if batch is None:
            return True
        rows = dealt(batch, self.world.rank, self.world.size, 1)[0] or [[blank(batch[0][0])]]
        self.model.eval()
        try:
            with torch.no_grad():
                found = self.loss(collate(rows, self.pad, self.world.device, self.packed))
        finally:
            self.model.train()
        good = math.isfinite(self.world.total(found).item()) and numbers(self.parameters)
        return not self.world.any(not good)[0]

    def _backward(self, batch: Sequences, rows: int) -> Gradient | None:
        """Each part's sum is divided by the targets of the whole batch: neither accumulation nor processes change what
        is learned. Processes take the mean of their gradients, so each weighs its own by their number.
        """
        world, device = self.world, self.world.device
        targets = sum(e.targets for sequence in batch for e in sequence)
        value = torch.zeros((), device=device)
        parts = dealt(batch, world.rank, world.size, rows)
        for number, sequences in enumerate(parts):
            if number and self.run.control.agree(world)[0]:
                return None
            micro = collate(sequences or [[blank(batch[0][0])]], self.pad, device, self.packed)
            with exchanged(self.loss.forward, last=number == len(parts) - 1):
                part = self.loss(micro, world.size / targets)
                self.scaler.scale(part).backward()
            value += part.detach()
        value = world.total(value) / world.size
        if self.scaler.is_enabled():
            self.scaler.unscale_(self.optimizer)
        models.before_step(self.model)
        size = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
        return Gradient.of(value, size, self.scaler)
