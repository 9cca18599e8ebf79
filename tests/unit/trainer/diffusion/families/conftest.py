"""Tiny models of each family, and the options that make everything exact."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from attrs import frozen

from schemas.diffusion import Options
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.weights import Weights

CPU = torch.device("cpu")


def _exact(**options: Any) -> Options:
    """Options under which nothing is rounded."""
    return Options(mixed_precision="no", vae_dtype="fp32", **options)


@frozen
class Tiny:
    """A tiny model, and its family."""

    folder: Path
    family: Family
    weights: Weights

    def stock(self) -> Any:
        """The stock pipeline, as somebody else loads it, with the sampler's spacing that is ours.

        Frozen, as ours is: on a CPU a linear layer whose weights want gradients differs in the last bit.
        """
        from diffusers import DiffusionPipeline

        pipeline = DiffusionPipeline.from_pretrained(self.folder)
        pipeline.set_progress_bar_config(disable=True)
        for part in pipeline.components.values():
            if isinstance(part, torch.nn.Module):
                part.requires_grad_(False)
        if self.family.name != "flux":
            own = pipeline.scheduler
            pipeline.scheduler = type(own).from_config(own.config, timestep_spacing="trailing")
        return pipeline

    def parts(self, options: Options) -> tuple[Any, Any, Any]:
        """Denoiser, VAE and pipeline."""
        vae = self.family.vae(self.weights, options, CPU)
        denoiser = self.family.denoiser(self.weights, options, CPU)
        return denoiser, vae, self.family.pipeline(self.weights, denoiser, vae, options)


@pytest.fixture
def exact() -> Callable[..., Options]:
    return _exact


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tiny]:
    def made(family: str, **shape: Any) -> Tiny:
        folder = shared_tiny(family, tmp_path_factory, **shape)
        return Tiny(folder, families.find(family), Weights(name=str(folder), root=folder))

    return made
