"""AdamW over weights in bf16: what a step adds is rounded at random, so that small steps count on the average.

bf16 keeps 8 bits of a number. A step of less than a 512th of the weight would always be rounded away; rounded up with
the probability of what is lost, it is kept in the mean. Zamirai et al., "Revisiting BFloat16 Training" (2020);
AdamW as of Loshchilov and Hutter, "Decoupled Weight Decay Regularization" (2019).
"""

from collections.abc import Iterable
from typing import Any

import torch

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
        """Take a step from the gradients that are there; `closure` is not used."""
        with torch.no_grad():
            for group in self.param_groups:
                group["steps"] += 1
                generators: dict[torch.device, torch.Generator] = {}
                for parameter in group["params"]:
                    if parameter.grad is None:
                        continue
                    device = parameter.device
                    if device not in generators:
                        generators[device] = torch.Generator(device).manual_seed(
                            self._seed * _SEED_STRIDE + group["steps"]
                        )
                    self._update(parameter, parameter.grad, group, generators[device])

    def _update(
        self,
        parameter: torch.nn.Parameter,
        gradient: torch.Tensor,
        group: dict[str, Any],
        generator: torch.Generator,
    ) -> None:
        state = self.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        (beta1, beta2), rate, steps = group["betas"], group["lr"], group["steps"]
        gradient, weight = gradient.float(), parameter.float()
        first = state["exp_avg"].float().lerp_(gradient, 1 - beta1)
        second = state["exp_avg_sq"].float().mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        spread = (second / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        weight = weight.mul(1 - rate * group["weight_decay"]).addcdiv_(first, spread, value=-rate / (1 - beta1**steps))
        for kept, value in ((state["exp_avg"], first), (state["exp_avg_sq"], second), (parameter, weight)):
            kept.copy_(rounded(value, generator) if kept.dtype is torch.bfloat16 else value)


def rounded(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """fp32 values as bf16: up or down at random, so that the mean stays; what is no number stays none."""
    noise = torch.randint(1 << _LOST_BITS, values.shape, dtype=torch.int32, device=values.device, generator=generator)
    bits = (values.contiguous().view(torch.int32) + noise) & -(1 << _LOST_BITS)
    return torch.where(values.isfinite(), bits.view(torch.float32), values).to(torch.bfloat16)
