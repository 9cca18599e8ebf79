"""PixArt where the model is told the size and the aspect of a picture, and SDXL's sizes."""

import numpy as np
import pytest
import torch

from trainyard.trainer.diffusion.families.family import Shown, Wish

CPU = torch.device("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize(("name", "shape"), [("pixart_sigma", {"sample_size": 128}), ("sdxl", {})])
def test_the_model_is_told_the_sizes_of_each_sample(tiny, exact, name, shape):
    made, options = tiny(name, **shape), exact(model_family=name)
    denoiser = made.family.denoiser(made.weights, options, CPU)
    texts = made.family.stacked(made.family.texts(made.weights, options, CPU).encode(["a star", "a star"]))
    latents = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1)

    def said(*sizes):
        with torch.no_grad():
            return made.family.predict(denoiser, Shown(latents, torch.tensor([500, 500]), texts, torch.tensor(sizes)))

    one, other = said([64, 64, 0, 0, 64, 64], [640, 480, 0, 0, 64, 64])
    assert not torch.allclose(one, other, atol=1e-4)
    same, again = said([64, 64, 0, 0, 64, 64], [64, 64, 0, 0, 64, 64])
    assert torch.allclose(same, again, atol=1e-6)
    if name == "pixart_sigma":
        _, aspect = said([64, 64, 0, 0, 64, 64], [64, 64, 0, 0, 64, 32])
        assert not torch.allclose(one, aspect, atol=1e-4)


def test_a_pixart_that_is_told_sizes_is_sampled_by_the_pipeline_that_tells_them(tiny, exact):
    from diffusers import PixArtAlphaPipeline

    made, options = tiny("pixart_sigma", sample_size=128), exact(model_family="pixart_sigma")
    parts = made.stock().components
    texts = made.family.texts(made.weights, options, CPU)
    text, negative = texts.encode(["a star"])[0], texts.encode(["blurry"])[0]
    _, _, pipeline = made.parts(options)

    found = made.family.sample(pipeline, text, negative, Wish(width=64, height=48, steps=2, guidance=3.0, seed=7))

    stock = PixArtAlphaPipeline(**parts)
    stock.set_progress_bar_config(disable=True)
    more = {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 300, "guidance_scale": 3.0}
    generator = torch.Generator().manual_seed(7)
    wanted = stock("a star", "blurry", 2, width=64, height=48, generator=generator, **more).images[0]
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
