"""The loss of a micro batch: cross entropy over the tokens that are learned, without holding their logits twice."""

import inspect
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from trainyard.trainer.text import model as models
from trainyard.trainer.text.tokens.batches import Micro

_AT_ONCE = {"cpu": 1 << 21, "cuda": 1 << 27}
"""Logits that are held in fp32 at one time; on a CPU few enough for its caches."""


class Loss:
    """The summed cross entropy; the head is computed only at columns where some row has a target."""

    def __init__(self, model: Any, half: torch.dtype | None, device: torch.device, forward: Any = None) -> None:
        #: What is called: the model, or what spreads it over several processes.
        self.forward = model if forward is None else forward
        self._device = device
        self._half = half
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._front = models.virtual_tokens(model)
        self._picks = "logits_to_keep" in inspect.signature(base.forward).parameters

    def __call__(self, micro: Micro, weight: float = 1.0) -> torch.Tensor:
        """Of one micro batch, times `weight`."""
        columns = micro.columns + self._front
        picked = {"logits_to_keep": columns} if self._picks else {}
        with torch.autocast(self._device.type, self._half, enabled=self._half is not None):
            logits = self.forward(**micro.inputs, **picked, use_cache=False).logits
        if not self._picks:
            logits = logits[:, columns]
        if micro.learned is None:
            logits, targets = logits.flatten(0, 1), micro.targets.flatten()
        else:
            logits, targets = logits[micro.learned], micro.targets[micro.learned]
        if logits.dtype == torch.float16:  # its gradient must be scaled before it is rounded
            return cross_entropy(logits.float(), targets, reduction="sum") * weight
        total: torch.Tensor = _CrossEntropy.apply(logits, targets, weight, torch.is_grad_enabled())
        return total


class _CrossEntropy(torch.autograd.Function):
    """The gradient is computed with the loss, some rows at a time, and takes the place of the logits.

    So a large vocabulary costs one copy of them in the model's precision, not four, of which three in fp32.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, weight: float, learns: bool) -> torch.Tensor:
        given = logits.detach()
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        rows = max(1, _AT_ONCE.get(logits.device.type, 1 << 24) // given.shape[-1])
        for some, wanted in zip(given.split(rows), targets.split(rows), strict=True):
            found = some.float()
            of_all = found.logsumexp(-1, keepdim=True)
            total += (of_all - found.gather(1, wanted[:, None])).sum()
            if learns:
                found = found.sub_(of_all).exp_()
                found.scatter_add_(1, wanted[:, None], found.new_full((1, 1), -1.0).expand(len(wanted), 1))
                torch.mul(found, weight, out=some) if found is some else some.copy_(found.mul_(weight))
        ctx.gradient = given if learns else None
        return total * weight

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if outer.device.type != "cpu" or outer.item() != 1:
            gradient = gradient.mul_(outer)
        return gradient, None, None, None
