"""Prompts: what is cut is counted, and what the options change is in the embedding and in its key."""

import gc
import weakref

import numpy as np
import pytest
import torch

from trainyard.trainer.diffusion.families.family import Shown, Wish

CPU = torch.device("cpu")
LONG = "a small red circle on a striped background " * 60


@pytest.mark.parametrize(("name", "most"), [("flux", 512), ("pixart_sigma", 300), ("sdxl", 77)])
def test_a_prompt_too_long_is_cut_and_its_lost_tokens_are_counted(tiny, exact, name, most):
    made = tiny(name)
    texts = made.family.texts(made.weights, exact(model_family=name), CPU)
    stock = made.stock()
    tokenizer = stock.tokenizer_2 if name == "flux" else stock.tokenizer

    assert texts.cut(LONG) == len(tokenizer(LONG).input_ids) - most
    assert texts.cut("a red star") == 0
    assert len(texts.encode([LONG])[0]["words"]) == most


def test_the_number_of_tokens_can_be_chosen_and_schnell_has_fewer(tiny, exact):
    made = tiny("flux", flavour="schnell")

    def length(**options):
        texts = made.family.texts(made.weights, exact(**options), CPU)
        return len(texts.encode(["a star"])[0]["words"]), texts.key

    assert length(model_flavour="schnell")[0] == 256
    assert length(tokenizer_max_length=40)[0] == 40
    assert length(tokenizer_max_length=40)[1] != length(tokenizer_max_length=41)[1]


def test_zero_padding_is_in_the_embedding_and_in_its_key(tiny, exact):
    made = tiny("flux")
    plain, zero = (made.family.texts(made.weights, exact(t5_padding=said), CPU) for said in ("unmodified", "zero"))

    tokens = len(zero.t5.tokenizer("a red star").input_ids)
    before, after = (texts.encode(["a red star"])[0]["words"] for texts in (plain, zero))
    assert torch.equal(before[:tokens], after[:tokens])
    assert after[tokens:].abs().sum() == 0 < before[tokens:].abs().sum()
    assert plain.key != zero.key


def test_skipped_layers_of_sdxl_are_those_of_the_stock_pipeline(tiny, exact):
    made = tiny("sdxl")
    plain, skipped = (made.family.texts(made.weights, exact(clip_skip=n), CPU) for n in (0, 1))

    with torch.no_grad():
        wanted = made.stock().encode_prompt("a star", do_classifier_free_guidance=False, clip_skip=1)[0][0]
    assert torch.equal(skipped.encode(["a star"])[0]["words"], wanted)
    assert not torch.equal(plain.encode(["a star"])[0]["words"], wanted)
    assert plain.key != skipped.key


def test_hidden_padding_changes_nothing_that_flux_says(tiny, exact):
    made, options = tiny("flux"), exact(flux_attention_masked_training=True)
    texts = made.family.texts(made.weights, options, CPU)
    text = texts.encode(["a red star"])[0]
    tokens = int(text["mask"].sum())
    other = text | {"words": torch.cat([text["words"][:tokens], torch.randn(512 - tokens, 32)])}
    denoiser, _, pipeline = made.parts(options)
    latents = torch.randn(1, 4, 8, 8)

    def said(embedding):
        shown = Shown(latents, torch.tensor([500.0]), made.family.stacked([embedding]), torch.zeros(1, 6))
        with torch.no_grad():
            return made.family.predict(denoiser, shown)

    def picture(embedding):
        wish = Wish(width=64, height=64, steps=1, guidance=3.5, seed=1, guidance_real=2.0)
        return np.asarray(made.family.sample(pipeline, embedding, embedding, wish))

    def bare(embedding):
        return {name: tensor for name, tensor in embedding.items() if name != "mask"}

    assert torch.allclose(said(text), said(other), atol=1e-5)
    assert not torch.allclose(said(bare(text)), said(bare(other)), atol=1e-3)
    assert np.abs(picture(text).astype(int) - picture(other)).max() <= 1
    assert np.abs(picture(bare(text)).astype(int) - picture(bare(other))).max() > 1


def test_the_key_is_known_before_anything_is_loaded_and_what_was_loaded_can_go(tiny, exact, monkeypatch):
    made = tiny("flux")
    texts = made.family.texts(made.weights, exact(), CPU)
    key = texts.key
    texts.encode(["a star"])
    encoder = weakref.ref(texts.t5.encoder)

    del texts
    gc.collect()

    assert encoder() is None
    monkeypatch.setattr("trainyard.trainer.diffusion.families.parts.t5.load", None)
    assert made.family.texts(made.weights, exact(), CPU).key == key
    assert made.family.texts(made.weights, exact().__class__(mixed_precision="bf16"), CPU).key != key
