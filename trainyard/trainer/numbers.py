"""Whether what was learned is still made of numbers."""

from collections.abc import Sequence

import torch
from torch.distributed.tensor import DTensor


def numbers(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether all of them are finite; of shares those of this process. Waits for the device once."""
    held = [t.to_local() if isinstance(t, DTensor) else t for t in (t.detach() for t in tensors)]
    ends = [torch.stack(t.aminmax()).float() for t in held if t.numel()]
    return not ends or bool(torch.stack(ends).isfinite().all())
