"""The generators of random numbers, so that a run goes on as if it had never been stopped."""

import base64
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from attrs import frozen

from trainyard.trainer.processes import World


def seed_all(seed: int) -> None:
    """Begin every generator of this process anew."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@frozen
class Generators:
    """The state of every generator of random numbers."""

    python: Any
    numpy: Any
    torch: torch.Tensor
    cuda: tuple[torch.Tensor, ...]

    @classmethod
    def now(cls) -> "Generators":
        """As they stand; cheap enough for every step."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()
        return cls(random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), tuple(cuda))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Generators":
        """As `plain` wrote them."""
        kind, values, gauss = record["python"]
        inner = record["numpy"]["state"]
        numpy = record["numpy"] | {"state": inner | {"key": np.array(inner["key"], np.uint32)}}
        cuda = tuple(_unpacked(s) for s in record["cuda"])
        return cls((kind, tuple(values), gauss), numpy, _unpacked(record["torch"]), cuda)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        inner = self.numpy["state"]
        return {
            "python": self.python,
            "numpy": self.numpy | {"state": inner | {"key": inner["key"].tolist()}},
            "torch": _packed(self.torch),
            "cuda": [_packed(s) for s in self.cuda],
        }

    def restore(self) -> None:
        """Make them stand so again."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if torch.cuda.is_available() and len(self.cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(list(self.cuda))


def gathered(world: World) -> dict[str, Any]:
    """The generators of all processes as JSON, in the first one: its own, and those of the `others` by rank."""
    own, *others = world.gather(Generators.now().plain()) or [{}]
    return own | ({"others": others} if others else {})


def restore_generators(record: Mapping[str, Any], world: World) -> None:
    """As `gathered` saw them; a process that had no place then keeps its own."""
    saved = [record, *record.get("others", ())]
    if world.rank < len(saved):
        Generators.of(saved[world.rank]).restore()


def _packed(state: torch.Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode()


def _unpacked(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
