"""A LoRA on a Flux of full size, on one GPU: `python -m benchmarks.gpu_diffusion`; `--tiny` runs it small on the CPU.

Random weights (12B), 1,024 pixels, rank 16, gradient checkpointing, batches of 1 and 4, the base in bf16 (trained by
`adamw_bf16`) and in 8 bits (by `optimi-lion`). Ours runs over a job folder with warm caches; beside it the transformer
alone, forward and backward. Told: seconds a step, the share of the GPU's bf16 peak that the model's own arithmetic
makes of it (what checkpointing computes again is not counted), the memory at the peak, and the time outside of the
transformer.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from benchmarks.diffusion_work import Seen, Size, Work, by_peer, by_us
from benchmarks.gpu_text import PEAKS
from benchmarks.table import interleaved, met, show

_OUTSIDE = 0.05
_GIB = 1 << 30


@frozen(kw_only=True)
class Shape:
    """A Flux's measures."""

    width: int
    double: int
    single: int
    head: int
    words: int
    summary: int
    size: Size
    #: What the base is held in, and the batch.
    runs: tuple[tuple[str, int], ...]

    @property
    def tokens(self) -> int:
        """Of a picture and its prompt."""
        return (self.size.edge // 16) ** 2 + self.size.words

    @property
    def operations(self) -> float:
        """Of a sample's step: forward, and backward to the inputs; the frozen weights have no gradient of their own."""
        blocks, width, tokens = self.double + self.single, self.width, self.tokens
        linear = 2 * 12 * width**2 * tokens * blocks
        attention = 4 * tokens**2 * width * blocks
        return 2.0 * linear + 3.0 * attention


_FULL = Size(edge=1024, words=512, pictures=8, vae=(128, 256, 512, 512), warm=3, steps=13)
_SMALL = Size(edge=64, words=16, pictures=8, warm=1, steps=2, rank=4)
_RUNS = (("bf16", 1), ("bf16", 4), ("int8", 1), ("int8", 4))
SHAPES = {
    "12B": Shape(width=3072, double=19, single=38, head=128, words=4096, summary=768, size=_FULL, runs=_RUNS),
    "tiny": Shape(
        width=128, double=1, single=1, head=64, words=64, summary=64, size=_SMALL, runs=(("bf16", 1), ("int8", 2))
    ),
}
BASES = {"bf16": "no_change", "int8": "int8-quanto"}
#: What people train by, with each base.
OPTIMIZERS = {"bf16": "adamw_bf16", "int8": "optimi-lion"}


def main(name: str, rounds: int, devices: tuple[str, ...]) -> None:
    """Measure and print."""
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        work = _made(Path(folder), shape, "cuda" if devices else "cpu")
        found = {
            (base, batch): interleaved(rounds, _measures(work, base, batch, devices)) for base, batch in shape.runs
        }
    peak = _peak() if devices else None
    rows, notes = [], []
    for (base, batch), runs in found.items():
        # The first run of all fills the caches before its clock starts.
        step, alone = (batch / max(seen.samples_per_second for seen in some) for some in runs.values())
        memory = max(seen.peak_bytes for seen in runs["ours"]) / _GIB
        share = f"{shape.operations * batch / step / peak:.0%}" if peak else "?"
        outside, name = 1 - alone / step, f"{base}, batch {batch}, {OPTIMIZERS[base]}"
        rows.append((name, f"{step:.3f}", share, f"{memory:.1f}", f"{1e3 * (step - alone):.1f}"))
        notes.append(
            f"{name}: {outside:.1%} of a step outside of the transformer "
            f"(goal < {_OUTSIDE:.0%}: {met(outside, _OUTSIDE, least=False)})"
        )
    size = shape.size
    about = f"{size.edge} px, {shape.tokens:,} tokens, LoRA rank {size.rank} on {shape.double} + {shape.single} blocks"
    head = (f"Flux-style {name}", "s/step", "MFU", "peak GiB", "ms outside")
    show(f"{rounds} rounds, the best of each", head, rows, [about, *notes])


def _measures(work: Work, base: str, batch: int, devices: tuple[str, ...]) -> dict[str, Callable[[], Seen]]:
    options: dict[str, Any] = {
        "mixed_precision": "bf16",
        "vae_dtype": "bf16",
        "base_model_precision": BASES[base],
        "optimizer": OPTIMIZERS[base],
        "gradient_checkpointing": True,
        "train_batch_size": batch,
    }
    own = evolve(work, size=evolve(work.size, batch=batch))
    alone = {"options": own.options() | options, "device": ",".join(devices)}
    return {
        "ours": partial(by_us, own, options, devices),
        "the transformer alone": partial(by_peer, own, "none", alone, "denoiser_alone"),
    }


def _made(folder: Path, shape: Shape, device: str) -> Work:
    """Random weights, written in bf16, and pictures."""
    import torch

    from benchmarks.diffusion_models import flux
    from tests.pictures import draw

    work = Work(folder, shape.size, "flux")
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        made = flux(
            shape.width,
            shape.double,
            shape.size.vae,
            single=shape.single,
            head=shape.head,
            words=shape.words,
            summary=shape.summary,
        )
    torch.set_default_dtype(torch.float32)
    made.save_pretrained(work.model)
    del made
    if device == "cuda":
        torch.cuda.empty_cache()
    draw(work.pictures, shape.size.pictures, edge=shape.size.edge, ratios=(1.0,))
    return work


def _peak() -> float | None:
    import torch

    name = torch.cuda.get_device_name()
    return next((flops for word, flops in PEAKS.items() if word in name), None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="small, on the CPU: does it run?")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    main("tiny" if given.tiny else "12B", given.rounds, () if given.tiny else ("0",))
