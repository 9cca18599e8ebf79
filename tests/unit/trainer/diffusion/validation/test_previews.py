"""What is shown while a picture is made, and what it is made visible with."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.trainer.diffusion.validation.studio import CPU, seen
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.data.images import pixels
from trainyard.trainer.diffusion.validation.previews import Colours, Tiny
from trainyard.trainer.failures import ConfigError


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    """A small decoder for the latents of a model, and one for others; their weights are random."""

    def make(channels):
        from diffusers import AutoencoderTiny

        shape = {"encoder_block_out_channels": (4, 4, 4, 4), "decoder_block_out_channels": (4, 4, 4, 4)}
        blocks = {"num_encoder_blocks": (1, 1, 1, 1), "num_decoder_blocks": (1, 1, 1, 1)}
        folder = tmp_path_factory.mktemp("tiny") / str(channels)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            AutoencoderTiny(latent_channels=channels, **shape, **blocks).save_pretrained(folder)
        return str(folder)

    return make


def test_steps_1_5_9_13_17_20_of_20_are_told_before_the_picture_each_with_its_file(studio, attempt):
    given = {"validation_preview": True, "validation_preview_steps": 4, "validation_num_inference_steps": 20}
    studio.drawn(**given)
    *previews, picture = attempt.data("validation")
    assert [event["sampling_step"] for event in previews] == [1, 5, 9, 13, 17, 20]
    assert {event["kind"] for event in previews} == {"preview"} and picture["kind"] == "picture"
    times = [event["timestep"] for event in previews]
    assert times == sorted(times, reverse=True) and len(set(times)) == 6
    first = previews[1]
    assert first["path"] == "validation/step-1/previews/validation-32x32-1-5.png"
    assert {k: first[k] for k in ("prompt", "resolution", "sampling_steps", "seed", "step")} == {
        "prompt": "a red circle",
        "resolution": [32, 32],
        "sampling_steps": 20,
        "seed": 7,
        "step": 1,
    }
    shown = [seen(studio.run.spec.output / event["path"]) for event in previews]
    assert {image.size for image in shown} == {(32, 32)}, "as large as the picture will be"
    assert len({image.tobytes() for image in shown}) == 6


def test_without_the_option_nothing_is_shown_and_the_picture_is_the_same(studio, attempt):
    plain = studio.drawn()
    assert {event["kind"] for event in attempt.data("validation")} == {"picture"}
    assert studio.drawn(validation_preview=True) == plain


def test_a_small_decoder_is_used_where_one_is_given(studio, attempt, decoder):
    studio.drawn(validation_preview=True)
    path = studio.run.spec.output / attempt.data("validation")[0]["path"]
    fitted = seen(path)
    studio.drawn(validation_preview=True, validation_preview_decoder=decoder(4))
    assert seen(path).size == (32, 32) and seen(path).tobytes() != fitted.tobytes()


def test_a_decoder_that_does_not_fit_is_refused_before_the_training_by_its_folder(studio, decoder, tmp_path):
    with pytest.raises(ConfigError, match="of 8 channels, the model's have 4"):
        studio.validation(validation_preview=True, validation_preview_decoder=decoder(8))
    with pytest.raises(ConfigError, match=r"validation_preview_decoder: .* of 8 channels, the model's have 4"):
        Tiny.load(decoder(8), 4, CPU)
    with pytest.raises(ConfigError, match="a folder with a diffusers AutoencoderTiny would be right"):
        Tiny.load(str(tmp_path), 4, CPU)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderTiny", "latent_channels": 4}')
    with pytest.raises(ConfigError, match="validation_preview_decoder"):
        Tiny.load(str(tmp_path), 4, CPU)


@pytest.fixture
def cached(hub, decoder):
    """Lay a decoder into the hub's cache, as its client does; its folder there."""

    def lay(name, channels):
        repository = hub / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("5e" * 20)
        return Path(shutil.copytree(decoder(channels), repository / "snapshots" / ("5e" * 20)))

    return lay


def told(attempt):
    return [event["message"] for event in attempt.data("log") if event["message"].startswith("previews are")]


def test_the_familys_own_decoder_is_taken_from_the_hub_unless_another_one_is_asked_for(
    studio, attempt, decoder, cached
):
    studio.drawn(validation_preview=True, validation_preview_decoder=decoder(4))
    path = studio.run.spec.output / attempt.data("validation")[0]["path"]
    by_folder = seen(path).tobytes()
    assert told(attempt) == []
    cached("madebyollin/taef1", 4)
    studio.drawn(validation_preview=True)
    assert seen(path).tobytes() == by_folder
    cached("me/mine", 4)
    studio.drawn(validation_preview=True, validation_preview_decoder="me/mine")
    assert seen(path).tobytes() == by_folder
    assert told(attempt) == [f"previews are decoded by {name}" for name in ("madebyollin/taef1", "me/mine")]


def test_where_a_hub_gives_no_decoder_that_fits_colours_are_shown_and_the_log_says_why(
    studio, attempt, cached, decoder
):
    def shown(**given):
        studio.drawn(validation_preview=True, **given)
        return seen(studio.run.spec.output / attempt.data("validation")[-2]["path"]).tobytes()

    fitted = shown(validation_preview_decoder="me/none")
    other = cached("madebyollin/taef1", 16)
    assert shown() == fitted
    for file in other.glob("*.safetensors"):
        file.write_bytes(b"cut")
    assert shown() == fitted
    shutil.rmtree(other)
    assert shown(validation_preview_decoder=decoder(4)) != fitted
    absent, unfit, broken = told(attempt)
    assert absent.startswith("previews are colours fitted to the training pictures: ")
    assert "me/none" in absent and "not in the cache" in absent
    assert "it is for latents of 16 channels, the model's have 4" in unfit
    assert "madebyollin" in broken and "16 channels" not in broken
    assert {event["kind"] for event in attempt.data("validation")} == {"preview", "picture"}


@pytest.mark.parametrize(
    ("family", "name"),
    [("flux", "madebyollin/taef1"), ("sdxl", "madebyollin/taesdxl"), ("pixart_sigma", "madebyollin/taesdxl")],
)
def test_each_family_has_a_decoder_for_the_latents_of_its_vae(family, name):
    assert families.find(family).tiny_vae == name


def test_what_is_no_hub_id_is_refused_as_a_decoder(studio):
    with pytest.raises(ConfigError, match="a hub id, owner/name, or the folder of a decoder would be right"):
        studio.validation(validation_preview=True, validation_preview_decoder="taef1")
    studio.validation(validation_preview=False, validation_preview_decoder="taef1")


class Tinted:
    """Latents that are colours, mixed into four channels, with something added."""

    mixed = torch.tensor([[1.0, 0.2, 0.0], [0.0, -0.8, 0.1], [0.3, 0.0, 0.9], [0.5, 0.5, 0.5]])

    def encode(self, _, image):
        small = torch.nn.functional.avg_pool2d(image, 8)
        return torch.einsum("dc,bchw->bdhw", self.mixed, small) + 0.4


def test_colours_are_fitted_to_the_training_pictures_and_shown_as_large_as_they_are(studio):
    colours = Colours.fit(Tinted(), None, studio.gallery.pictures, CPU)
    assert colours.scale == 8
    wanted = pixels(studio.gallery.pictures[-1])
    image = torch.from_numpy(wanted).permute(2, 0, 1)[None].float() / 127.5 - 1
    shown = np.asarray(colours.show(Tinted().encode(None, image)))
    assert shown.shape == wanted.shape
    small = wanted.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    assert all(np.abs(shown[at].astype(float) - small[at]).max() < 40 for at in corners)
    assert np.abs(shown.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3)) - small).mean() < 12


def test_latents_that_are_no_numbers_are_shown_all_the_same(studio):
    colours = Colours.fit(Tinted(), None, studio.gallery.pictures, CPU)
    assert colours.show(torch.full((1, 4, 2, 2), float("nan"))).size == (16, 16)
