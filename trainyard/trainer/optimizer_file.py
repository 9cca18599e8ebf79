"""An optimizer's state in a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_crc32_options, set_crc32_options

OPTIMIZER = "optimizer.pt"


def save_optimizer(state: Mapping[str, Any], scaler: torch.amp.GradScaler, file: Any) -> None:
    """The optimizer's state and, with fp16, the loss scale.

    Into an open file: given a path torch's own writer forgets why a write failed. Without its checksums, which take as
    long as the writing: the checkpoint has sums of its own.
    """
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        torch.save({"optimizer": state, "scaler": scaler.state_dict()}, file)
    finally:
        set_crc32_options(before)


def read_optimizer(folder: Path, device: torch.device) -> dict[str, Any]:
    """What `save_optimizer` wrote: the states under `optimizer` and `scaler`, with tensors on the device."""
    found: dict[str, Any] = torch.load(folder / OPTIMIZER, map_location=device, weights_only=True)
    return found
