"""How many steps a run has, and what share of the learning rate each one gets."""

import math
from collections.abc import Callable

from attrs import frozen


@frozen
class Shape:
    """What some of the kinds can be told besides."""

    #: How often `cosine_with_restarts` begins anew, and how many waves `sine` has.
    cycles: int = 1
    #: Of `polynomial`.
    power: float = 1.0
    #: The rate that it comes down to, never more than the learning rate itself; of `linear` and the constants it is
    #: without meaning. None: 0, of `polynomial` 1e-7.
    end: float | None = None


#: Which share of the way down to the end is still to go, when a share `done` of the steps is.
_SHAPES: dict[str, Callable[[float, Shape], float]] = {
    "linear": lambda done, _: 1.0 - done,
    "cosine": lambda done, _: _fallen(done),
    "constant": lambda _done, _: 1.0,
    "constant_with_warmup": lambda _done, _: 1.0,
    "polynomial": lambda done, shape: (1.0 - done) ** shape.power,
    "cosine_with_restarts": lambda done, shape: _fallen(done * shape.cycles % 1.0) if done < 1 else 0.0,
    "sine": lambda done, shape: _fallen(2.0 * done * shape.cycles),
}
_USUAL_ENDS = {"polynomial": 1e-7}
#: Those of the `/train` document, which can't be told more.
KINDS = ("linear", "cosine", "constant", "constant_with_warmup", "polynomial")
#: All of them.
SHAPED_KINDS = tuple(_SHAPES)


def learning_rate(kind: str, rate: float, step: int, total: int, warmup: int, shape: Shape = Shape()) -> float:
    """The rate of step `step` (0 is the first) of `total`; it rises through `warmup` steps, then follows `kind`."""
    if step < warmup:
        return rate * step / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    end = 0.0 if kind == "linear" else min(rate, _USUAL_ENDS.get(kind, 0.0) if shape.end is None else shape.end)
    return end + (rate - end) * _SHAPES[kind](done, shape)


def total_steps(batches: int, epochs: float, max_steps: int | None) -> int:
    """`max_steps` decides where it is given; else the epochs, each of `batches` steps."""
    return max_steps or max(1, math.ceil(batches * epochs))


def warmup_steps(total: int, steps: int | None, ratio: float) -> int:
    """A number of steps wins over a share; never more than there are."""
    return min(total, steps if steps is not None else math.ceil(total * ratio))


def _fallen(phase: float) -> float:
    """From 1 down to 0 at phase 1, and up again to 1 at phase 2, along a cosine."""
    return 0.5 * (1.0 + math.cos(math.pi * phase))
