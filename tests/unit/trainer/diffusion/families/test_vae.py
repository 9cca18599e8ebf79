"""The VAE as the options say: what it computes in, and how much of the pictures at once."""

from pathlib import Path

import pytest
import torch
from attrs import evolve

from trainyard.trainer.diffusion.weights import Weights

CPU = torch.device("cpu")


@pytest.fixture
def seen(tiny, exact):
    """What the encoder of a VAE is shown of three pictures of 64 × 64 pixels, by options; and its latents."""
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def encoded(name: str = "flux", weights: Weights | None = None, **options):
        made, shown = tiny(name), []
        vae = made.family.vae(weights or made.weights, evolve(exact(model_family=name), **options), CPU)
        vae.encoder.register_forward_pre_hook(lambda _, given: shown.append((tuple(given[0].shape), given[0].dtype)))
        return shown, made.family.encode(vae, pixels)

    return encoded


@pytest.mark.parametrize("name", ["flux", "pixart_sigma", "sdxl"])
def test_slicing_takes_one_picture_after_the_other_and_changes_nothing(seen, name):
    (plain, latents), (sliced, same) = seen(name), seen(name, vae_enable_slicing=True)
    assert plain == [((3, 3, 64, 64), torch.float32)]
    assert sliced == [((1, 3, 64, 64), torch.float32)] * 3
    torch.testing.assert_close(same, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["flux", "pixart_sigma", "sdxl"])
def test_tiling_shows_the_vae_parts_of_the_pictures(seen, name):
    (_, latents), (tiles, found) = seen(name), seen(name, vae_enable_tiling=True)
    assert len(tiles) > 1 and all(max(shape[2:]) < 64 for shape, _ in tiles)
    assert found.shape == latents.shape and not found.equal(latents)


def test_the_vae_computes_in_what_the_option_says_else_in_what_its_files_hold(seen, tiny, exact, tmp_path: Path):
    made = tiny("flux")
    made.family.vae(made.weights, exact(), CPU).bfloat16().save_pretrained(tmp_path / "vae")
    halved = Weights(name="halved", root=made.folder, parts={"vae": tmp_path / "vae"})
    exactly = seen()[1]

    for weights, told, computed in (
        (made.weights, "bf16", torch.bfloat16),
        (made.weights, "default", torch.float32),
        (halved, "default", torch.bfloat16),
        (halved, "fp32", torch.float32),
    ):
        (shown,), latents = seen(weights=weights, vae_dtype=told)
        assert (shown[1], latents.dtype) == (computed, computed), told
        if weights is made.weights:
            assert latents.equal(exactly) == (computed is torch.float32)
            torch.testing.assert_close(latents.float(), exactly, atol=0.05, rtol=0.05)
