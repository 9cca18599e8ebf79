"""What a family finds wrong with weights and options before anything is loaded."""

import json
import shutil

import pytest

from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.weights import Weights


def problems(made, options, weights=None):
    return "\n".join(made.family.check(weights or made.weights, options))


@pytest.mark.parametrize("name", ["flux", "pixart_sigma", "sdxl"])
def test_a_good_model_has_no_problems(tiny, exact, name):
    assert problems(tiny(name), exact(model_family=name)) == ""


@pytest.mark.parametrize(("asked", "there"), [("flux", "pixart_sigma"), ("sdxl", "flux"), ("pixart_sigma", "sdxl")])
def test_weights_of_another_family_are_told_with_the_family_that_would_be_right(tiny, exact, asked, there):
    found = problems(tiny(asked), exact(model_family=asked), tiny(there).weights)

    assert found.startswith("extra_parameters.model_family: ")
    assert f"model_family {there} would be right" in found


def test_another_stable_diffusion_is_no_sdxl(tiny, exact, tmp_path):
    folder = shutil.copytree(tiny("sdxl").folder, tmp_path / "model")
    config = json.loads((folder / "unet/config.json").read_text())
    (folder / "unet/config.json").write_text(json.dumps(config | {"addition_embed_type": None}))

    assert "told no sizes" in problems(tiny("sdxl"), exact(), Weights(name="x", root=folder))


@pytest.mark.parametrize("part", ["vae", "text_encoder_2", "tokenizer", "transformer"])
def test_a_missing_part_is_named_and_so_is_one_without_weights(tiny, exact, tmp_path, part):
    made = tiny("flux")
    folder = shutil.copytree(made.folder, tmp_path / "model")
    shutil.rmtree(folder / part)
    gone = problems(made, exact(), Weights(name="x", root=folder))
    (folder / part).mkdir()
    shutil.copyfile(next((made.folder / part).glob("*config.json")), folder / part / "config.json")
    bare = problems(made, exact(), Weights(name="x", root=folder))

    assert f"x has no {part} ({folder})" in gone
    assert part.startswith("tokenizer") or f"x has no {part} ({folder / part})" in bare


def test_a_part_from_elsewhere_takes_the_place_of_a_missing_one(tiny, exact, tmp_path):
    made = tiny("flux")
    folder = shutil.copytree(made.folder, tmp_path / "model")
    vae = shutil.move(folder / "vae", tmp_path / "vae")

    assert "pretrained_vae_model_name_or_path may name one" in problems(made, exact(), Weights(name="x", root=folder))
    assert problems(made, exact(), Weights(name="x", root=folder, parts={"vae": tmp_path / "vae"})) == "", vae


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("flux", {"model_flavour": "medium"}, "model_flavour: 'medium' is not one of dev"),
        ("flux", {"prediction_type": "epsilon"}, "prediction_type: epsilon: it is a model of flow_matching"),
        ("flux", {"pretrained_unet_model_name_or_path": "x"}, "pretrained_unet_model_name_or_path: flux has no such"),
        ("flux", {"validation_guidance_rescale": 0.5}, "validation_guidance_rescale: flux has nothing of the kind"),
        ("flux", {"inference_scheduler_timestep_spacing": "leading"}, "flux has nothing of the kind"),
        ("pixart_sigma", {"validation_guidance_rescale": 0.5}, "pixart_sigma has nothing of the kind"),
        ("pixart_sigma", {"prediction_type": "flow_matching"}, "epsilon or v_prediction would be right"),
        ("sdxl", {"t5_padding": "zero"}, "t5_padding: sdxl has nothing of the kind"),
        ("sdxl", {"tokenizer_max_length": 40}, "tokenizer_max_length: sdxl has nothing of the kind"),
        ("sdxl", {"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr: where nothing of the picture is left"),
        ("sdxl", {"pretrained_t5_model_name_or_path": "x"}, "pretrained_t5_model_name_or_path: sdxl has no such part"),
    ],
)
def test_options_that_a_family_can_not_follow_are_refused_by_name(tiny, exact, name, options, said):
    found = problems(tiny(name), exact(model_family=name, **options))

    assert found.startswith("extra_parameters.") and said in found


def test_options_are_held_against_what_the_folder_s_scheduler_predicts(tiny, exact, tmp_path):
    made, options = tiny("sdxl"), exact(model_family="sdxl", input_perturbation=0.1)
    folder = shutil.copytree(made.folder, tmp_path / "model")
    config = json.loads((folder / "scheduler/scheduler_config.json").read_text())
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config | {"prediction_type": "v_prediction"}))

    found = problems(made, options, Weights(name="x", root=folder))
    assert found.startswith("extra_parameters.input_perturbation: is for models that predict epsilon, not v_prediction")
    assert problems(made, options) == ""


def test_kontext_is_not_trained_as_another_flavour(tiny, exact):
    made = tiny("flux", flavour="kontext")

    assert "kontext would be right" in problems(made, exact(model_flavour="dev"))
    assert problems(made, exact(model_flavour="kontext")) == ""
    assert made.family.edits(exact(model_flavour="kontext")) and not made.family.edits(exact())


def test_an_option_without_anything_to_act_on_is_taken_and_told(tiny, exact):
    for name in ("flux", "pixart_sigma"):
        family = tiny(name).family
        assert family.notes(exact()) == []
        assert family.notes(exact(clip_skip=2))[0].startswith("extra_parameters.clip_skip: is not used: ")


def test_a_family_is_found_by_either_spelling_and_an_unknown_one_is_told_the_names():
    from trainyard.trainer.failures import ConfigError

    assert families.find("pixart") is families.find("pixart_sigma")
    assert families.names() == ["flux", "pixart_sigma", "sdxl"]
    with pytest.raises(ConfigError, match="'sd9' is not one of flux, pixart_sigma, sdxl"):
        families.find("sd9")
