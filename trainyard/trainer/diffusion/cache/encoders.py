"""VAE and text encoders as long as they are needed: loaded when first asked, let go at the end of the `with`."""

import gc
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from attrs import define, field

from schemas.diffusion import Options
from trainyard.trainer.diffusion.families.family import Embedding, Family, TextSide
from trainyard.trainer.diffusion.weights import Weights


@define(eq=False)
class _Held:
    """Something of a family's on a device, which takes memory from its first use to `close`."""

    family: Family
    weights: Weights
    options: Options
    device: torch.device
    #: What its first use, which loads it, stands in: a stop may end that at once.
    loading: Callable[[], AbstractContextManager[None]] = nullcontext
    _held: Any = field(default=None, init=False)

    @property
    def loaded(self) -> bool:
        """Whether it takes memory now."""
        return self._held is not None

    def close(self) -> None:
        """Let go of it, and of its memory. It may be used again, and is loaded again then."""
        if self._held is None:
            return
        self._held = None
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@define(eq=False)
class Vae(_Held):
    """The VAE of a family."""

    def encode(self, pixels: Sequence[np.ndarray]) -> torch.Tensor:
        """Latents (b, c, h, w) on the CPU, of pictures of one size, each (H, W, 3) of uint8."""
        if self._held is None:
            with self.loading():
                self._held = self.family.vae(self.weights, self.options, self.device)
        batch = torch.from_numpy(np.stack(pixels)).to(self.device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        with torch.no_grad():
            return self.family.encode(self._held, batch).to("cpu")


@define(eq=False)
class Encoders(_Held):
    """Tokenizers and text encoders of a family."""

    def encode(self, prompts: Sequence[str]) -> list[Embedding]:
        """An embedding for each prompt, on the CPU."""
        with nullcontext() if self.loaded else self.loading(), torch.no_grad():
            return self._side().encode(prompts)

    def cut(self, prompt: str) -> int:
        """Tokens of a prompt that the model will not see."""
        return self._side().cut(prompt)

    @property
    def key(self) -> str:
        """Everything that an embedding depends on but the prompt."""
        return self.family.texts(self.weights, self.options, self.device).key

    def _side(self) -> TextSide:
        if self._held is None:
            self._held = self.family.texts(self.weights, self.options, self.device)
        side: TextSide = self._held
        return side
