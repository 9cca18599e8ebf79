"""The four single files of a Flux, and the one of an SDXL, whose widths follow from the tensors."""

import inspect
import json
import shutil

import numpy as np
import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file, save_file

from tests.single_files import flux_files, pixart, sdxl_file, t5_state
from tests.tiny_diffusion import WORDS
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.families.family import Wish
from trainyard.trainer.diffusion.families.parts.t5 import T5
from trainyard.trainer.diffusion.model.whole import Whole
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ModelError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """Sums are split among threads: pictures are equal to the last bit where there is one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def stock(tiny):
    return tiny("flux", published=True).stock()


@pytest.fixture
def single(stock, tmp_path):
    root = flux_files(stock, tmp_path / "models")
    elsewhere = {"vae": "ae.sft", "text_encoder": "clip_l.safetensors", "text_encoder_2": "t5xxl_fp16.safetensors"}
    parts = {part: root.parent / name for part, name in elsewhere.items()}
    return Weights(name=str(root), root=root, parts=parts)


def test_a_picture_of_single_files_is_that_of_the_folder_they_were_made_of(stock, single, exact):
    flux, options = families.find("flux"), exact(model_family="flux", model_type="lora")

    assert flux.check(single, options) == []
    vae, denoiser = flux.vae(single, options, CPU), flux.denoiser(single, options, CPU)
    text = flux.texts(single, options, CPU).encode(["a red star"])[0]
    pipeline = flux.pipeline(single, denoiser, vae, options)
    found = flux.sample(pipeline, text, None, Wish(width=64, height=48, steps=2, guidance=3.5, seed=7))

    told = {"num_inference_steps": 2, "guidance_scale": 3.5, "generator": torch.Generator().manual_seed(7)}
    wanted = stock("a red star", width=64, height=48, **told).images[0]
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_our_map_of_the_transformer_agrees_with_the_one_of_diffusers(stock, single, exact):
    from diffusers.loaders import single_file_utils

    # Theirs has the width of the real model written in.
    source = inspect.getsource(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers)
    assert "inner_dim = 3072" in source
    names = dict(vars(single_file_utils))
    exec(source.replace("inner_dim = 3072", "inner_dim = 64"), names)
    theirs = names["convert_flux_transformer_checkpoint_to_diffusers"](load_file(single.root))

    ours = families.find("flux").denoiser(single, exact(), CPU).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_our_map_of_the_autoencoder_agrees_with_the_one_of_diffusers(single, exact):
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    vae = families.find("flux").vae(single, exact(), CPU)

    theirs = convert_ldm_vae_checkpoint(load_file(single.parts["vae"]), vae.config)
    ours = vae.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (vae.config.scaling_factor, vae.config.shift_factor) == (0.3611, 0.1159)


def test_files_with_a_prefix_and_with_an_autoencoder_inside_are_read_too(single, exact, tmp_path):
    flux, both = families.find("flux"), tmp_path / "all.safetensors"
    own = {f"model.diffusion_model.{name}": tensor for name, tensor in load_file(single.root).items()}
    vae = {f"first_stage_model.{name}": tensor for name, tensor in load_file(single.parts["vae"]).items()}
    save_file(own | vae, both)
    parts = {part: path for part, path in single.parts.items() if part != "vae"}
    weights = evolve(single, root=both, parts=parts, beside=single.root.parent)

    assert flux.check(weights, exact(model_type="lora")) == []
    for load in (flux.denoiser, flux.vae):
        found, wanted = (load(each, exact(), CPU).state_dict() for each in (weights, single))
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_file_of_something_else_or_half_a_file_is_told_by_name(single, exact, tmp_path):
    flux, half = families.find("flux"), tmp_path / "half.sft"
    half.write_bytes(single.root.read_bytes()[:-1000])

    with pytest.raises(ModelError, match=r"ae\.sft: is no FluxTransformer2DModel: img_in.weight"):
        flux.denoiser(evolve(single, parts={"transformer": single.parts["vae"]}), exact(), CPU)
    with pytest.raises(ModelError, match=r"flux1-dev\.sft: is no AutoencoderKL"):
        flux.vae(evolve(single, parts={"vae": single.root}), exact(), CPU)
    with pytest.raises(ModelError, match=r"half\.sft is cut short"):
        flux.denoiser(evolve(single, parts={"transformer": half}), exact(), CPU)


def test_what_single_files_lack_is_named(single, exact):
    flux = families.find("flux")
    shutil.rmtree(single.root.parent / "tokenizer_2")

    found = "\n".join(flux.check(evolve(single, parts={}), exact()))

    for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer_2"):
        assert f"has no {part} (" in found
    assert "has no transformer" not in found and "has no tokenizer (" not in found


@pytest.fixture(scope="module")
def sigma(tiny):
    """A PixArt Sigma with the real model's heads that is told sizes, as those for 1024 pixels were tried."""
    return tiny("pixart_sigma", published=True, sample_size=128)


@pytest.mark.parametrize("layout", ["authors", "authors without places", "diffusers"])
def test_a_single_file_of_pixart_is_the_transformer_that_it_was_made_of(sigma, exact, tmp_path, layout):
    wanted, options = sigma.stock().transformer, exact(model_family="pixart_sigma", model_flavour="600M-1024")
    state = dict(wanted.state_dict()) if layout == "diffusers" else pixart(wanted, places=layout == "authors")
    save_file(state, tmp_path / "sigma.safetensors")
    weights = Weights(name="x", root=tmp_path / "sigma.safetensors", beside=sigma.folder)

    assert sigma.family.check(weights, options) == []
    found = sigma.family.denoiser(weights, options, CPU)

    assert found.state_dict().keys() == wanted.state_dict().keys()
    assert all(torch.equal(tensor, wanted.state_dict()[name]) for name, tensor in found.state_dict().items())
    assert torch.equal(found.pos_embed.pos_embed, wanted.pos_embed.pos_embed)
    assert found.use_additional_conditions and found.config.interpolation_scale == 2
    half = sigma.family.denoiser(weights, options, CPU, torch.bfloat16)
    assert {tensor.dtype for tensor in (*half.parameters(), *half.buffers())} == {torch.bfloat16}


def test_the_flavour_of_a_single_pixart_tells_its_size_and_is_held_against_its_blocks(sigma, exact, tmp_path):
    state = dict(sigma.stock().transformer.state_dict())
    save_file(state, tmp_path / "two.safetensors")
    deep = {n.replace(".0.", f".{b}.", 1): t.clone() for n, t in state.items() for b in range(28) if "blocks.0." in n}
    save_file(deep | {n: t for n, t in state.items() if "blocks." not in n}, tmp_path / "deep.safetensors")
    two, deep = (Weights(name="x", root=tmp_path / f"{n}.safetensors", beside=sigma.folder) for n in ("two", "deep"))

    for flavour, side in (("600M-512", 64), ("600M-1024", 128), ("600M-2048", 256)):
        assert sigma.family.denoiser(two, exact(model_flavour=flavour), CPU).config.sample_size == side
        assert sigma.family.check(deep, exact(model_flavour=flavour)) == []
    (found,) = sigma.family.check(deep, exact())
    assert found.startswith("extra_parameters.model_flavour: ") and "has the 28 blocks of a model of 600M" in found


def test_a_pixart_with_what_diffusers_has_not_is_told_by_the_tensor(sigma, exact, tmp_path):
    state = pixart(sigma.stock().transformer) | {"blocks.0.attn.q_norm.weight": torch.ones(72)}
    save_file(state, tmp_path / "normed.safetensors")
    weights = Weights(name="x", root=tmp_path / "normed.safetensors")

    with pytest.raises(ModelError, match=r"is no PixArtTransformer2DModel: attn\.q_norm is not as expected"):
        sigma.family.denoiser(weights, exact(), CPU)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", ["flux", "pixart_sigma", "sdxl"])
def test_what_is_trained_whole_of_a_single_file_is_a_folder_that_the_stock_pipeline_reads(tiny, exact, tmp_path, name):
    from diffusers import DiffusionPipeline

    made, options = tiny(name, published=True), exact(model_family=name, model_type="full")
    stock, given = made.stock(), tmp_path / "given"
    parts = {}
    if name == "pixart_sigma":
        given.mkdir()
        save_file(pixart(stock.transformer), root := given / "sigma.safetensors")
        save_file(t5_state(stock.text_encoder), given / "t5.safetensors")
        parts = {"text_encoder": given / "t5.safetensors", **{p: made.folder / p for p in ("vae", "tokenizer")}}
    else:
        root = flux_files(stock, given) if name == "flux" else sdxl_file(stock, given)
    if name == "flux":
        elsewhere = {"vae": "ae.sft", "text_encoder": "clip_l.safetensors", "text_encoder_2": "t5xxl_fp16.safetensors"}
        parts = {part: given / file for part, file in elsewhere.items()}
    weights = Weights(name=str(root), root=root, parts=parts)
    assert made.family.check(weights, options) == []

    denoiser = made.family.denoiser(weights, options, CPU)
    Whole(denoiser, made.family, weights, evolve(options, vae_dtype="bf16")).write(tmp_path / "final")

    found = DiffusionPipeline.from_pretrained(tmp_path / "final")
    found.set_progress_bar_config(disable=True)
    assert type(found) is type(stock) and {*found.components} == {*stock.components}
    if name != "flux":
        stock.scheduler = type(found.scheduler).from_config(found.scheduler.config)
    pictures = [
        p("a red star", width=64, height=64, num_inference_steps=2, generator=torch.Generator().manual_seed(7))
        for p in (found, stock)
    ]
    assert np.abs(np.asarray(pictures[0].images[0]).astype(int) - np.asarray(pictures[1].images[0])).max() <= 1


def test_the_tokenizer_of_a_t5_may_be_a_file_of_sentencepiece_alone(exact, tmp_path):
    """As `google/t5-v1_1-xxl` has it, which needs no token."""
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    numbers = {"vocab_size": 60, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2}
    place = tmp_path / "tokenizer_2"
    place.mkdir()
    SentencePieceTrainer.train(input=str(tmp_path / "words.txt"), model_prefix=str(place / "spiece"), **numbers)
    (place / "spiece.vocab").unlink()
    told = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "extra_ids": 100}
    (place / "tokenizer_config.json").write_text(json.dumps(told))
    weights = Weights(name="x", root=tmp_path, parts={"tokenizer_2": place})

    read = T5.of(weights, exact(), "_2", 512, CPU, masked=False).tokenizer("a red star").input_ids

    own = SentencePieceProcessor(model_file=str(place / "spiece.model"))
    assert read == [*own.encode("a red star"), own.eos_id()]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_picture_of_one_file_with_all_of_sdxl_is_that_of_the_folder_it_was_made_of(tiny, exact, tmp_path):
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    made, options = tiny("sdxl", published=True), exact(model_family="sdxl", model_type="lora")
    stock, sdxl = made.stock(), made.family
    root = sdxl_file(stock, tmp_path)
    weights = Weights(name=str(root), root=root)

    assert sdxl.check(weights, options) == []
    vae, denoiser = sdxl.vae(weights, options, CPU), sdxl.denoiser(weights, options, CPU)
    texts = sdxl.texts(weights, options, CPU)
    text, negative = (texts.encode([prompt])[0] for prompt in ("a red star", "blurry"))
    pipeline = sdxl.pipeline(weights, denoiser, vae, options)
    found = sdxl.sample(pipeline, text, negative, Wish(width=64, height=32, steps=2, guidance=3.0, seed=7))

    told = {"num_inference_steps": 2, "guidance_scale": 3.0, "generator": torch.Generator().manual_seed(7)}
    wanted = stock("a red star", negative_prompt="blurry", width=64, height=32, **told).images[0]
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
    theirs, ours = convert_ldm_unet_checkpoint(load_file(root), denoiser.config), denoiser.state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
