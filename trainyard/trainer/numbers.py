"""Whether loss, gradient and what was learned are still made of numbers, and what is said where they are not."""

import math
from collections.abc import Callable, Sequence

import torch
from attrs import frozen
from torch.distributed.tensor import DTensor

from trainyard.trainer.failures import NanLoss
from trainyard.trainer.position import Position
from trainyard.trainer.run import Run

_LEAST_SCALE = 1.0
"""An fp16 step that overflows is skipped and the loss scale halved; below this it is not the scale that overflows."""


@frozen
class Gradient:
    """What a batch came to: its mean loss, of text a learned token's, and the norm of all gradients before clipping."""

    loss: float
    norm: float
    #: Not a number, and not for the loss scale either: it must not be applied.
    lost: bool
    #: The norm on its device.
    size: torch.Tensor

    @classmethod
    def of(cls, loss: torch.Tensor, size: torch.Tensor, scaler: torch.amp.GradScaler) -> "Gradient":
        """Waits for the device once; where `size` is in shares every process must call it."""
        whole = size.full_tensor() if isinstance(size, DTensor) else size
        value, norm = torch.stack([loss, whole.to(loss)]).tolist()
        overflow = math.isfinite(value) and scaler.is_enabled() and scaler.get_scale() > _LEAST_SCALE
        return cls(value, norm, not (math.isfinite(value) and (math.isfinite(norm) or overflow)), size)


def lost(position: Position, gradient: Gradient, rate: float, sound: bool) -> NanLoss:
    """What to say of a step that came to nothing; `sound`: the steps before it are kept."""
    kept = "what was learned before is kept" if sound else "the steps since the last checkpoint had spoilt the model"
    return NanLoss(
        f"step {position.step + 1} came to a loss of {gradient.loss} with a gradient of norm {gradient.norm} "
        f"(learning rate {rate:.3g}) and was not taken; {kept}, a lower rate may hold"
    )


def check_sound(run: Run, position: Position, sound: Callable[[], bool]) -> None:
    """Raises `NanLoss` where the steps since the last checkpoint spoilt the model: it must not be kept as good."""
    if run.control.saved_step == position.step or sound():
        return
    raise NanLoss(
        f"step {position.step} left weights with which nothing has a loss that is a number; the steps since the last "
        "checkpoint had spoilt the model and are not kept, a lower rate may hold"
    )


def numbers(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all of them are finite; of shares those of this process. Waits for the device once."""
    held = [t.to_local() if isinstance(t, DTensor) else t for t in (t.detach() for t in tensors)]
    ends = [torch.stack(t.aminmax()).float() for t in held if t.numel()]
    return not ends or bool(torch.stack(ends).isfinite().all())
