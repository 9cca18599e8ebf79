"""How much memory a diffusion job needs in a step, by part, before its model is loaded."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from attrs import asdict, frozen

from schemas.diffusion import Options
from trainyard.trainer.diffusion.data.gallery import Gallery
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.diffusion.families.family import Family, Shown
from trainyard.trainer.diffusion.memory.eighths import put_in
from trainyard.trainer.diffusion.memory.traced import traced
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.model.quantised import in_eight_bits
from trainyard.trainer.diffusion.optimizers import make_optimizer
from trainyard.trainer.diffusion.step import Forward
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.text.memory.room import resident

DeviceKind = Literal["cpu", "cuda"]
#: What the allocator holds in gaps, as a share of what comes and goes in a step: as measured for texts.
_GAPS = {"cpu": 0.65, "cuda": 0.0}
#: Threads, their heaps and the kernels' workspace.
_WORKSPACE = {"cpu": 64 << 20, "cuda": 96 << 20}
#: Numbers of a parameter that an optimizer is tried on, to see what it keeps of it.
_TRIED = 512 * 512
_MEAN_BYTES = 4
#: Optimizers that hold a second copy of all weights for a moment.
_AT_ONCE = "torch-"
#: Where no configuration of a VAE tells otherwise: blocks, each but the first halving the picture.
_VAE_BLOCKS = 4


@frozen(kw_only=True)
class Estimate:
    """Bytes of one process at the peak of a step, by part."""

    weights: int
    trainable: int
    gradients: int
    optimizer: int
    average: int
    activations: int
    #: What the update takes for a moment beyond the activations, which are gone by then.
    update: int
    allocator: int
    overhead: int

    @property
    def parts(self) -> dict[str, int]:
        """The parts by name."""
        return asdict(self)

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"estimate_bytes": self.bytes, "parts": self.parts}

    def against(self, peak: int) -> dict[str, Any]:
        """For the manifest: beside the measured peak, with the error as a share of it."""
        return {**self.plain(), "peak_bytes": peak, "error": round(self.bytes / peak - 1, 4)}


def estimated(
    family: Family,
    weights: Weights,
    options: Options,
    gallery: Gallery,
    *,
    device_kind: DeviceKind,
    processes: int = 1,
) -> Estimate:
    """By the model's configuration alone, on shapes: weights need not be here.

    On the CPU the process's own size now is counted too: the denoiser must not be loaded yet. Raises what making the
    denoiser ready to be trained raises.
    """
    precision = Precision.of(options, torch.device("cpu"))
    with torch.device("meta"):
        denoiser: Any = family.blank(weights, options, precision.held)
        small = put_in(denoiser, in_eight_bits(denoiser, options))
        trained = put_on(denoiser, family, weights, options, precision)
        forward = Forward(family, trained).train()
    learned = {id(p) for p in trained.parameters.values()}
    held = [p for p in (*forward.parameters(), *forward.buffers()) if id(p) not in learned]
    numbers = sum(p.numel() for p in trained.parameters.values())
    trainable = sum(p.numel() * p.element_size() for p in trained.parameters.values())
    kind = next(iter(trained.parameters.values())).dtype
    activations = traced(forward, lambda: _shown(family, weights, options, gallery, denoiser), precision.computed)
    here = device_kind == "cpu" or options.ema_device == "accelerator"
    return Estimate(
        weights=sum(p.numel() * (1 if id(p) in small else p.element_size()) for p in held),
        trainable=trainable,
        gradients=trainable * (2 if processes > 1 else 1),
        optimizer=round(numbers * _kept(options, kind)),
        average=numbers * _MEAN_BYTES if options.use_ema and here else 0,
        activations=activations,
        update=max(0, trainable - activations) if options.optimizer.startswith(_AT_ONCE) else 0,
        allocator=round(_GAPS[device_kind] * activations),
        overhead=_WORKSPACE[device_kind] + (resident() if device_kind == "cpu" else 0),
    )


def _shown(family: Family, weights: Weights, options: Options, gallery: Gallery, denoiser: Any) -> Shown:
    """A micro batch of the largest pictures, of zeros."""
    count = max([options.train_batch_size, *(one.batch_size for one in gallery.sets)])
    largest = max(gallery.pictures, key=_area)
    channels, texts = family.outline(denoiser, options, count)
    cells = 2 ** (len(_blocks(weights.config("vae"))) - 1)

    def latents(picture: Picture) -> torch.Tensor:
        width, height = picture.frame.bucket
        return torch.zeros(count, channels, height // cells, width // cells)

    return Shown(
        latents=latents(largest),
        timesteps=torch.zeros(count),
        texts=texts,
        sizes=torch.ones(count, 6),
        references=tuple(latents(each) for each in largest.references),
    )


def _blocks(vae: Mapping[str, Any]) -> Sequence[Any]:
    return vae.get("block_out_channels") or range(_VAE_BLOCKS)


def _area(picture: Picture) -> int:
    shown = (picture, *picture.references)
    return sum(each.frame.width * each.frame.height for each in shown)


def _kept(options: Options, kind: torch.dtype) -> float:
    """Bytes that the optimizer keeps of each number: as one step with it shows."""
    tried = torch.nn.Parameter(torch.zeros(512, _TRIED // 512, dtype=kind))
    optimizer = make_optimizer(options, [tried], 0)
    tried.grad = torch.zeros_like(tried)
    optimizer.step()
    tensors = [value for value in optimizer.state[tried].values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / _TRIED
