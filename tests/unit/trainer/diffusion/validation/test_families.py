"""Validation of the other families: pictures to edit, samplers, rescaled guidance."""

import pytest
from attrs import evolve

from trainyard.trainer.failures import ConfigError

#: diffusers gives torch's tensors to numpy in a way that numpy warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
NAME = "validation-32x32-1.png"


@pytest.fixture
def kontext(new_studio):
    return new_studio(shape={"flavour": "kontext"}, model_flavour="kontext")


def test_pictures_to_edit_are_drawn_from_the_training_data_by_the_seed(kontext, attempt):
    edited = kontext.drawn(num_validation_images=3)
    assert kontext.drawn(num_validation_images=3) == edited
    drawn = [event["references"] for event in attempt.data("validation")]
    assert drawn[:3] == drawn[3:] and len({path for paths in drawn for path in paths}) > 1
    assert {path for paths in drawn for path in paths} <= {str(p.path) for p in kontext.gallery.pictures}
    assert kontext.drawn(validation_using_datasets=False)[NAME] != edited[NAME]
    assert "references" not in attempt.data("validation")[-1]


def test_the_whole_training_picture_is_edited_where_none_has_a_partner_and_that_was_asked_for(new_studio, attempt):
    kontext = new_studio(shape={"flavour": "kontext"}, model_flavour="kontext")
    alone = tuple(evolve(picture, references=()) for picture in kontext.gallery.pictures)
    kontext.gallery = evolve(kontext.gallery, pictures=alone)
    kontext.drawn()
    assert "references" not in attempt.data("validation")[-1]
    kontext.drawn(validation_using_datasets=True)
    assert len(attempt.data("validation")[-1]["references"]) == 1


@pytest.mark.parametrize("family", ["sdxl", "pixart_sigma"])
def test_samplers_are_those_of_the_option(new_studio, family):
    studio = new_studio(family, validation_num_inference_steps=4)
    found = {
        name: studio.drawn(validation_noise_scheduler=name)[NAME] for name in ("ddim", "euler-a", "unipc", "dpm++")
    }
    assert len(set(found.values())) == len(found)
    assert studio.drawn()[NAME] == studio.drawn()[NAME]


def test_rescaled_guidance_of_sdxl(new_studio):
    studio = new_studio("sdxl")
    assert studio.drawn(validation_guidance_rescale=0.7) != studio.drawn()
    assert studio.drawn(validation_negative_prompt="") != studio.drawn(), "guidance has a second pass here always"


def test_a_preview_of_every_family(new_studio, attempt):
    for count, family in enumerate(("sdxl", "pixart_sigma"), 1):
        new_studio(family).drawn(step=count, validation_preview=True)
        assert [e["kind"] for e in attempt.data("validation") if e["step"] == count] == [
            "preview",
            "preview",
            "picture",
        ]


def test_a_sampler_of_noise_is_none_for_flow(studio):
    with pytest.raises(ConfigError, match="leave it out"):
        studio.validation(validation_noise_scheduler="euler")
