"""Gradient checkpointing: the blocks are computed again on the way back, and only where that is asked for."""

from collections import Counter

import pytest
import torch

from schemas.diffusion import Options
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.families.family import Shown
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.step import Forward
from trainyard.trainer.diffusion.weights import Weights

CPU = torch.device("cpu")
BLOCKS = {
    "flux": {"FluxTransformerBlock": 2, "FluxSingleTransformerBlock": 2},
    "pixart_sigma": {"BasicTransformerBlock": 2},
    "sdxl": {"BasicTransformerBlock": 12},
}


@pytest.mark.parametrize(("name", "kind"), [("flux", "lora"), ("pixart_sigma", "full"), ("sdxl", "lora")])
def test_each_block_runs_twice_with_gradient_checkpointing_and_once_without(tmp_path_factory, name, kind):
    family, folder = families.find(name), shared_tiny(name, tmp_path_factory)
    weights, found = Weights(name="tiny", root=folder), {}
    for again in (False, True):
        given = {"model_type": kind, "lora_rank": 2, "gradient_checkpointing": again, "mixed_precision": "no"}
        options, runs = Options(model_family=name, tokenizer_max_length=8, **given), Counter()
        denoiser = family.denoiser(weights, options, CPU)
        trained = put_on(denoiser, family, weights, options, Precision.of(options, CPU))
        for module in denoiser.modules():
            if type(module).__name__ in BLOCKS[name]:
                module.register_forward_pre_hook(lambda block, _, runs=runs: runs.update([type(block).__name__]))
        channels, texts = family.outline(denoiser, options, 1)
        shown = Shown(
            latents=torch.zeros(1, channels, 4, 4),
            timesteps=torch.zeros(1),
            texts=texts,
            sizes=torch.ones(1, 6),
            guidance=family.guidance(options, 1, torch.Generator()),
        )
        Forward(family, trained).train()(shown).mean().backward()
        assert all(parameter.grad is not None for parameter in trained.parameters.values())
        found[again] = dict(runs)
    assert found[False] == BLOCKS[name]
    assert found[True] == {block: 2 * count for block, count in BLOCKS[name].items()}
