"""How many steps a run has, and what share of the learning rate each one gets."""

import math
from collections.abc import Callable

_POLYNOMIAL_END = 1e-7

_SHAPES: dict[str, Callable[[float, float], float]] = {
    "linear": lambda rate, done: rate * (1.0 - done),
    "cosine": lambda rate, done: rate * 0.5 * (1.0 + math.cos(math.pi * done)),
    "constant": lambda rate, _done: rate,
    "constant_with_warmup": lambda rate, _done: rate,
    "polynomial": lambda rate, done: (rate - _POLYNOMIAL_END) * (1.0 - done) + _POLYNOMIAL_END,
}
KINDS = tuple(_SHAPES)


def learning_rate(kind: str, rate: float, step: int, total: int, warmup: int) -> float:
    """The rate of step `step` (0 is the first) of `total`; it rises through `warmup` steps, then follows `kind`."""
    if step < warmup:
        return rate * step / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return _SHAPES[kind](rate, done)


def total_steps(batches: int, epochs: float, max_steps: int | None) -> int:
    """`max_steps` decides where it is given; else the epochs, each of `batches` steps."""
    return max_steps or max(1, math.ceil(batches * epochs))


def warmup_steps(total: int, steps: int | None, ratio: float) -> int:
    """A number of steps wins over a share; never more than there are."""
    return min(total, steps if steps is not None else math.ceil(total * ratio))
