"""Pictures to edit in Flux's sequence: where each lies, and what several of them change."""

import numpy as np
import torch
from diffusers import FluxKontextPipeline
from PIL import Image

from trainyard.trainer.diffusion.families.family import Shown, Wish
from trainyard.trainer.diffusion.families.parts.packing import packed, places, unpacked

CPU = torch.device("cpu")


def test_packing_and_places_are_those_of_the_stock_pipeline():
    latents = torch.randn(2, 4, 6, 8)

    theirs = FluxKontextPipeline._pack_latents(latents, 2, 4, 6, 8)
    assert torch.equal(packed(latents), theirs)
    assert torch.equal(unpacked(theirs, 6, 8), latents)
    own = FluxKontextPipeline._prepare_latent_image_ids(2, 3, 4, CPU, torch.float32)
    assert torch.equal(places((6, 8)), own)
    shown = FluxKontextPipeline._prepare_latent_image_ids(2, 5, 2, CPU, torch.float32)
    shown[..., 0] = 1
    assert torch.equal(places((6, 8), [(10, 4)]), torch.cat([own, shown]))


def test_no_two_tokens_of_several_pictures_are_told_the_same_place():
    for sizes in ([(6, 8), (6, 8)], [(10, 4), (4, 10), (6, 6)], [(4, 12), (4, 12), (4, 12)]):
        found = places((6, 8), sizes)
        assert len({tuple(place) for place in found.tolist()}) == len(found)
        assert len(found) == (6 * 8 + sum(height * width for height, width in sizes)) // 4
        assert found[:, 1:].max() < 16


def test_every_picture_to_edit_has_a_say_in_training_and_in_sampling(tiny, exact):
    made, options = tiny("flux", flavour="kontext"), exact(model_flavour="kontext", model_family="flux")
    denoiser, _, pipeline = made.parts(options)
    text = made.family.texts(made.weights, options, CPU).encode(["a star"])[0]
    latents, first, second = torch.randn(1, 4, 6, 8), torch.randn(1, 4, 8, 4), torch.randn(1, 4, 4, 6)

    def said(*references):
        texts = made.family.stacked([text])
        shown = Shown(latents, torch.tensor([500.0]), texts, torch.zeros(1, 6), references, torch.ones(1))
        with torch.no_grad():
            return made.family.predict(denoiser, shown)

    def picture(*references):
        wish = Wish(width=64, height=48, steps=2, guidance=3.5, seed=1)
        return np.asarray(made.family.sample(pipeline, text, None, wish, references))

    answers = [said(), said(first), said(first, second), said(first, torch.randn(1, 4, 4, 6))]
    noise = np.random.default_rng(0)
    some, other = (Image.fromarray(noise.integers(0, 255, (64, 32, 3), dtype=np.uint8)) for _ in range(2))
    pictures = [picture(), picture(some), picture(some, other), picture(some, some)]
    assert all(answer.shape == latents.shape for answer in answers)
    for found in (answers, pictures):
        different = [not np.array_equal(np.asarray(a), np.asarray(b)) for n, a in enumerate(found) for b in found[:n]]
        assert all(different)


def test_guidance_of_training_is_constant_or_drawn_between_its_limits(tiny, exact):
    flux = tiny("flux").family
    drawn = exact(flux_guidance_mode="random-range", flux_guidance_min=1.0, flux_guidance_max=4.0)

    constant = flux.guidance(exact(flux_guidance_value=2.5), 3, torch.Generator())
    found = flux.guidance(drawn, 500, torch.Generator().manual_seed(1))

    assert constant.tolist() == [2.5, 2.5, 2.5]
    assert 1 <= found.min() < 1.2 and 3.8 < found.max() <= 4
    assert torch.equal(found, flux.guidance(drawn, 500, torch.Generator().manual_seed(1)))
    assert tiny("sdxl").family.guidance(exact(), 3, torch.Generator()) is None


def test_the_guidance_is_told_to_the_models_that_know_it(tiny, exact):
    def said(flavour, guidance):
        made = tiny("flux", flavour=flavour)
        texts = made.family.stacked(made.family.texts(made.weights, exact(), CPU).encode(["a star"]))
        latents = torch.ones(1, 4, 4, 4)
        shown = Shown(latents, torch.tensor([500.0]), texts, torch.zeros(1, 6), (), torch.tensor([guidance]))
        with torch.no_grad():
            return made.family.predict(made.family.denoiser(made.weights, exact(), CPU), shown)

    assert not torch.equal(said("dev", 1.0), said("dev", 4.0))
    assert torch.equal(said("schnell", 1.0), said("schnell", 4.0))
