"""The denoiser of a step and nothing else: `python benchmarks/peers/denoiser_alone.py WORK`, WORK a JSON object.

Forward and backward of our own model with its adapter, on the same tensors each time: no data, noise, loss or
optimizer. Keys: model, options (of our job), edge, batch, words, steps, warm; device for a GPU.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion.families import find
from trainyard.trainer.diffusion.families.family import Shown
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.model.quantised import quantise
from trainyard.trainer.diffusion.step import Forward
from trainyard.trainer.diffusion.weights import Weights


def shown(config: Any, work: dict[str, Any], device: torch.device) -> Shown:
    """What a Flux is shown in a step."""
    count, side = work["batch"], work["edge"] // 8
    like = {"device": device}
    return Shown(
        latents=torch.randn(count, config.in_channels // 4, side, side, **like),
        timesteps=torch.rand(count, **like) * 1000,
        texts={
            "words": torch.randn(count, work["words"], config.joint_attention_dim, **like),
            "summary": torch.randn(count, config.pooled_projection_dim, **like),
        },
        sizes=torch.zeros(count, 6, **like),
        guidance=torch.ones(count, **like),
    )


def main(work: dict[str, Any]) -> None:
    """Compute and print what was seen."""
    device = torch.device("cuda" if work.get("device") else "cpu")
    options = Options(**work["options"])
    family, weights, precision = (
        find("flux"),
        Weights(name="bench", root=Path(work["model"])),
        Precision.of(options, device),
    )
    denoiser: Any = quantise(family.denoiser(weights, options, device, precision.held), options, device)
    trained = put_on(denoiser, family, weights, options, precision)
    forward = Forward(family, trained).train()
    given = shown(denoiser.config, work, device)
    began = 0.0
    for step in range(1, work["steps"] + 1):
        with precision.autocast(device):
            said = forward(given)
        said.float().mean().backward()
        for parameter in trained.parameters.values():
            parameter.grad = None
        if device.type == "cuda":
            torch.cuda.synchronize()
        if step == work["warm"]:
            began = time.perf_counter()
    speed = work["batch"] * (work["steps"] - work["warm"]) / (time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    print(json.dumps({"samples_per_second": speed, "peak_bytes": peak}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
