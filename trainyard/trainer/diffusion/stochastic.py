"""AdamW over weights in bf16: what a step adds is rounded at random, so that small steps count on the average.

bf16 keeps 8 bits of a number. A step of less than a 512th of the weight would always be rounded away; rounded up with
the probability of what is lost, it is kept in the mean. Zamirai et al., "Revisiting BFloat16 Training" (2020);
AdamW as of Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from trainyard.trainer.diffusion.chunks import Row, chunks

_LOST_BITS = 16
_SEED_STRIDE = 1_000_003


class StochasticAdamW(torch.optim.Optimizer):
    """AdamW whose weights and moments stay in the type of the weights; those of bf16 are rounded at random.

    Weights in fp32 are trained as by `torch.optim.AdamW`. The rounding follows from `seed` and the number of the step
    alone: a resumed run, and each of several processes, rounds alike.
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "steps": 0})
        self._seed = seed

    def step(self, closure: Any = None) -> None:
        """Take a step from the gradients that are there; `closure` is not used.

        Weights are taken in pieces of many: some dozen kernels are launched for 16 million numbers, not for a tensor.
        """
        with torch.no_grad():
            for group in self.param_groups:
                group["steps"] += 1
                seed, generators = self._seed * _SEED_STRIDE + group["steps"], dict[torch.device, torch.Generator]()
                for piece in chunks(self._rows(group)):
                    device, kind = piece[0][0].device, piece[0][0].dtype
                    if kind is torch.float32:
                        _update([list(column) for column in zip(*piece, strict=True)], group)
                        continue
                    if device not in generators:
                        generators[device] = torch.Generator(device).manual_seed(seed)
                    _update_small(piece, group, generators[device])

    def _rows(self, group: dict[str, Any]) -> Iterator[Row]:
        """Weight, gradient and both moments of what has a gradient."""
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            yield parameter, parameter.grad, state["exp_avg"], state["exp_avg_sq"]


def _update(columns: Sequence[list[torch.Tensor]], group: dict[str, Any]) -> None:
    """AdamW, in fp32 and in place; weights, gradients, first moments and second ones."""
    weights, gradients, firsts, seconds = columns
    (beta1, beta2), rate, steps = group["betas"], group["lr"], group["steps"]
    torch._foreach_lerp_(firsts, gradients, 1 - beta1)
    torch._foreach_mul_(seconds, beta2)
    torch._foreach_addcmul_(seconds, gradients, gradients, 1 - beta2)
    spread = torch._foreach_div(seconds, 1 - beta2**steps)
    torch._foreach_sqrt_(spread)
    torch._foreach_add_(spread, group["eps"])
    torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
    torch._foreach_addcdiv_(weights, firsts, spread, -rate / (1 - beta1**steps))


def _update_small(piece: Sequence[Row], group: dict[str, Any], generator: torch.Generator) -> None:
    """The same of weights in fewer bits: side by side in fp32, and back again."""
    sizes = [row[0].numel() for row in piece]
    flat = torch.empty(4, sum(sizes), dtype=torch.float32, device=piece[0][0].device)
    columns = [list(column) for column in zip(*piece, strict=True)]
    for line, column in zip(flat, columns, strict=True):
        torch._foreach_copy_(_cut(line, sizes, column), column)
    _update([[line] for line in flat], group)
    for n in (0, 2, 3):  # the gradient stays as it is
        line, column = flat[n], columns[n]
        values = rounded(line, generator) if column[0].dtype is torch.bfloat16 else line
        torch._foreach_copy_(column, _cut(values, sizes, column))


def _cut(line: torch.Tensor, sizes: Sequence[int], like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [part.view(tensor.shape) for part, tensor in zip(line.split(list(sizes)), like, strict=True)]


def rounded(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """fp32 values as bf16: up or down at random, so that the mean stays; what is no number stays none."""
    noise = torch.randint(1 << _LOST_BITS, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    noise.add_(values.contiguous().view(torch.int32)).bitwise_and_(-(1 << _LOST_BITS))
    return torch.where(values.isnan(), values, noise.view(torch.float32)).to(torch.bfloat16)
