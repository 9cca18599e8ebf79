"""The most memory that a training step took, without what loading, caching and drawing took before and between."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import define

from trainyard.trainer.text.memory.room import peak

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.memory.estimate import Estimate

_RESET = "5"


@define
class Gauge:
    """Begun before a step's forward pass, read after its update."""

    device: torch.device
    #: What was thought before; None where nothing was.
    estimate: "Estimate | None" = None
    #: Bytes: on the device, or, for the CPU, in the host's memory, with all that the process holds besides.
    bytes: int = 0

    def begin(self) -> None:
        """Forget what was needed before; where the system does not, as some containers, that counts too."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text(_RESET)

    def read(self) -> None:
        """Take note of what was needed since."""
        self.bytes = max(self.bytes, peak(self.device))

    def plain(self) -> dict[str, Any]:
        """For the manifest: nothing of a run that took no step."""
        if not self.bytes:
            return {}
        return self.estimate.against(self.bytes) if self.estimate is not None else {"peak_bytes": self.bytes}
