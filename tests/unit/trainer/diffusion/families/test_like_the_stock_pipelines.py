"""What a family shows the model, and the pictures that it makes, are those of diffusers' own pipelines."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from trainyard.trainer.diffusion.families.family import Shown, Wish

#: Said by diffusers' own DPM solver.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CPU = torch.device("cpu")
PROMPT, NEGATIVE = "a small Red circle beside a striped ground", "yellow star "
CASES = [
    ("flux", {}, None),
    ("flux", {"flavour": "schnell"}, "schnell"),
    ("flux", {"flavour": "kontext"}, "kontext"),
    ("pixart_sigma", {}, None),
    ("sdxl", {}, None),
    ("sdxl", {"prediction_type": "v_prediction"}, None),
]
WISH = Wish(width=64, height=48, steps=2, guidance=3.5, seed=7, guidance_real=2.0, guidance_rescale=0.0)


def picture(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def stock_call(name: str, flavour: str | None) -> dict[str, Any]:
    call: dict[str, Any] = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "width": WISH.width,
        "height": WISH.height,
        "num_inference_steps": WISH.steps,
        "guidance_scale": WISH.guidance,
        "generator": torch.Generator().manual_seed(WISH.seed),
    }
    if name == "flux":
        call |= {"true_cfg_scale": WISH.guidance_real, "max_sequence_length": 256 if flavour == "schnell" else 512}
    if name == "pixart_sigma":
        call |= {"use_resolution_binning": False, "clean_caption": False}
    if flavour == "kontext":
        call |= {"image": picture((32, 64)), "_auto_resize": False, "max_area": WISH.width * WISH.height}
    return call


@pytest.mark.parametrize(("name", "shape", "flavour"), CASES)
def test_a_picture_is_bit_for_bit_that_of_the_stock_pipeline(tiny, exact, name, shape, flavour):
    made, options = tiny(name, **shape), exact(model_flavour=flavour, model_family=name)
    texts = made.family.texts(made.weights, options, CPU)
    text, negative = (texts.encode([prompt])[0] for prompt in (PROMPT, NEGATIVE))
    _, _, pipeline = made.parts(options)
    seen: list[tuple[int, tuple[int, ...]]] = []

    found = made.family.sample(
        pipeline,
        text,
        negative,
        WISH,
        [picture((32, 64))] if flavour == "kontext" else [],
        lambda step, latents: seen.append((step, tuple(latents.shape))),
    )

    wanted = made.stock()(**stock_call(name, flavour)).images[0]
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
    assert np.asarray(found).std() > 1
    assert seen == [(1, (1, 4, 6, 8)), (2, (1, 4, 6, 8))]


@pytest.mark.parametrize(("name", "shape", "flavour"), CASES)
def test_the_model_is_shown_what_the_stock_pipeline_shows_it(tiny, exact, name, shape, flavour):
    made, options = tiny(name, **shape), exact(model_flavour=flavour, model_family=name)
    call = stock_call(name, flavour) | {"num_inference_steps": 1, "output_type": "latent"}
    if name == "flux":
        call |= {"true_cfg_scale": 1.0}
    else:
        call |= {"guidance_scale": 1.0}
    stock = made.stock()
    stock.scheduler.scale_model_input = lambda latents, _: latents
    module = getattr(stock, made.family.part)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], torch.Tensor]] = []
    module.register_forward_hook(lambda _, args, kwargs, said: calls.append((args, kwargs, said[0])), with_kwargs=True)
    stock(**call)
    (args, kwargs, said), denoiser = calls[0], made.family.denoiser(made.weights, options, CPU)

    texts = made.family.texts(made.weights, options, CPU).encode([PROMPT])
    shown = args[0] if args else kwargs["hidden_states"]
    told = kwargs.get("timestep", args[1] if len(args) > 1 else None)
    references: tuple[torch.Tensor, ...] = ()
    if name == "flux":
        from trainyard.trainer.diffusion.families.parts.packing import unpacked

        own = 3 * 4
        references = (unpacked(shown[:, own:], 8, 4),) if flavour == "kontext" else ()
        shown, said, told = unpacked(shown[:, :own], 6, 8), unpacked(said[:, :own], 6, 8), told * 1000
    sizes = torch.tensor([[48, 64, 0, 0, 48, 64]])
    predicted = made.family.predict(
        denoiser,
        Shown(
            latents=shown,
            timesteps=told.reshape(1),
            texts=made.family.stacked(texts),
            sizes=sizes,
            references=references,
            guidance=torch.tensor([3.5]),
        ),
    )

    said = said[:, : predicted.shape[1]]
    assert torch.equal(predicted, said) if name != "flux" else torch.allclose(predicted, said, atol=1e-6)
    assert predicted.shape == (1, 4, 6, 8)


@pytest.mark.parametrize(("name", "shape", "flavour"), [CASES[0], *CASES[3:5]])
def test_embeddings_are_those_of_the_stock_pipeline(tiny, exact, name, shape, flavour):
    made, options = tiny(name, **shape), exact(model_flavour=flavour, model_family=name)

    found = made.family.stacked(made.family.texts(made.weights, options, CPU).encode([PROMPT, NEGATIVE]))

    with torch.no_grad():
        more = {} if name == "flux" else {"do_classifier_free_guidance": False}
        told = made.stock().encode_prompt([PROMPT, NEGATIVE], **more)
    wanted = {
        "flux": {"words": told[0], "summary": told[1]},
        "pixart_sigma": {"words": told[0], "mask": told[1]},
        "sdxl": {"words": told[0], "summary": told[2] if len(told) > 2 else told[1]},
    }[name]
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[part], wanted[part]) for part in wanted)


def test_latents_are_those_of_the_vae_scaled_as_the_pipeline_scales_them(tiny, exact):
    made = tiny("flux", flavour="kontext")
    vae = made.family.vae(made.weights, exact(model_family="flux"), CPU)
    pixels = torch.rand(2, 3, 32, 64) * 2 - 1

    found = made.family.encode(vae, pixels)

    with torch.no_grad():
        wanted = made.stock()._encode_vae_image(pixels, None)
    assert torch.equal(found, wanted)
    drawn = made.family.encode(vae, pixels, torch.Generator().manual_seed(1))
    again = made.family.encode(vae, pixels, torch.Generator().manual_seed(1))
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, found)
