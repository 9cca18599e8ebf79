"""The four single files of a Flux, and the one of an SDXL, whose widths follow from the tensors."""

import inspect
import shutil

import numpy as np
import pytest
import torch
from attrs import evolve
from safetensors.torch import load_file, save_file

from tests.single_files import flux_files, sdxl_file
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.families.family import Wish
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ModelError

CPU = torch.device("cpu")


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


def test_a_single_file_is_not_trained_whole(single, exact):
    (found,) = families.find("flux").check(single, exact(model_type="full"))

    assert found.startswith("extra_parameters.model_type: ") and "is a single file" in found


def test_pixart_says_that_it_reads_no_single_file(single, exact):
    (found,) = families.find("pixart_sigma").check(single, exact())

    assert "pixart_sigma is not read from a single file in this version" in found


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
