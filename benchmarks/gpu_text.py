"""Fine-tuning on one GPU against plain TRL: `python -m benchmarks.gpu_text`. Never run where there is no GPU.

Llama-style models of random weights (1B, 8B), LoRA, 4,096 tokens, bf16. Ours runs over a job folder with packing and
its own defaults; TRL gets its own (gradient checkpointing on, `bfd`). Told: tokens a second, the share of the GPU's
bf16 peak that the model's own arithmetic makes of it (attention's is not counted), and the memory at the peak.
"""

import argparse
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from benchmarks.table import interleaved, met, ratio, show
from benchmarks.training_work import Seen, Size, Work, by_peer, by_us

_GOAL = 1.3
#: Dense bf16 operations a second, by a word of the GPU's name; the data sheets' figures without sparsity.
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "4090": 165e12}


@frozen(kw_only=True)
class Shape:
    """A Llama's measures."""

    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int = 128_256
    key_value_heads: int = 8

    @property
    def multiplied(self) -> int:
        """Parameters that a token is multiplied with: all but the embedding that it is looked up in."""
        key_value = self.hidden // self.heads * self.key_value_heads
        attention = 2 * self.hidden * (self.hidden + key_value)
        return self.layers * (attention + 3 * self.hidden * self.inner) + self.hidden * self.vocabulary


SHAPES = {
    "1B": Shape(hidden=2048, inner=8192, layers=16, heads=32),
    "8B": Shape(hidden=4096, inner=14336, layers=32, heads=32),
}
SIZE = Size(length=4096, batch=8, rate=2e-4, warm=5, steps=25)


def main(names: list[str], rounds: int) -> None:
    """Measure and print."""
    for name in names:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            work = _made(Path(folder), SHAPES[name])
            measures: dict[str, Callable[[], Seen]] = {
                "ours, lora, packing on": partial(by_us, work, "lora", packing=True, change=_on_the_gpu),
                "TRL's defaults, lora, bfd": partial(by_peer, work, "trl_sft", "lora", "bfd", more=_TRL),
            }
            found = interleaved(rounds, measures)
        _print(name, rounds, SHAPES[name].multiplied, found)


_TRL = {"dtype": "bf16", "checkpointing": True}


def _on_the_gpu(spec: dict[str, Any]) -> None:
    """The job with its device and its precision, and the micro batch left to the trainer."""
    spec["devices"] = ["0"]
    request = spec["request"]
    request["resources"] = {"gpus": 1}
    request["customization"]["precision"] = "bf16"
    request["tuning_parameters"].pop("micro_batch_size")


def _made(folder: Path, shape: Shape) -> Work:
    """Random weights, written in bf16, and rows of random words whose lengths are as uneven as real ones."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.tiny import make_tiny_llama

    work = Work(folder, evolve(SIZE))
    make_tiny_llama(work.model)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=8192,
        tie_word_embeddings=shape.hidden < 4096,
    )
    with torch.device("cuda"):
        torch.set_default_dtype(torch.bfloat16)
        model = LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(work.model)
    del model
    torch.cuda.empty_cache()
    chance = random.Random(0)
    words = [f"word{n}" for n in range(1000)]
    lengths = [min(1200, max(8, round(chance.lognormvariate(5.0, 1.0)))) for _ in range(20_000)]
    rows = ({"text": " ".join(chance.choices(words, k=length))} for length in lengths)
    work.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return work


def _print(name: str, rounds: int, parameters: int, found: dict[str, list[Seen]]) -> None:
    import torch

    gpu = torch.cuda.get_device_name()
    peak = next((flops for word, flops in PEAKS.items() if word in gpu), None)
    rows = []
    for who, seen in found.items():
        speed = statistics.median(s.tokens_per_second for s in seen)
        # Forward and backward to the inputs; the frozen weights have no gradient of their own: 4 a parameter, not 6.
        share = f"{4 * parameters * speed / peak:.0%}" if peak else "?"
        rows.append((who, f"{speed:,.0f}", share, f"{max(s.peak_bytes for s in seen) / (1 << 30):.1f}"))
    ours, theirs = ([s.tokens_per_second for s in seen] for seen in found.values())
    value = ratio(ours, theirs)
    notes = [
        f"{SIZE.length} tokens, {SIZE.batch} sequences a step, bf16, LoRA rank 16 on all linear layers, {gpu}",
        f"ours / TRL's defaults: {value:.2f} (goal ≥ {_GOAL}: {met(value, _GOAL)})",
    ]
    head = (f"Llama-style {name}", "tokens/s", "MFU", "peak GiB")
    show(f"{rounds} rounds, medians", head, rows, notes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    main(given.models, given.rounds)
