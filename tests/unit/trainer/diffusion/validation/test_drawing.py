"""The pictures themselves: what each option does to them, and that the training does not notice."""

import contextlib
import json
import random

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.trainer.diffusion.validation.studio import seen
from trainyard.trainer.generators import Generators

NAME = "validation-32x32-1.png"


def test_prompts_sizes_and_numbers_each_have_their_file_and_event(studio, attempt):
    library = json.dumps({"night bench": "a small green star", "b": "a large blue square"})
    given = {"user_prompt_library": library, "validation_prompt": None, "num_validation_images": 2}
    found = studio.drawn(validation_resolution="32x32,48x32", **given)
    names = [f"{p}-{s}-{n}.png" for p in ("b", "night_bench") for s in ("32x32", "48x32") for n in (1, 2)]
    assert list(found) == names and len(set(found.values())) == len(names)
    events = attempt.data("validation")
    assert len(events) == len(names)
    first = events[0]
    assert first["path"] == "validation/step-1/night_bench-32x32-1.png"
    assert first["uri"] == str(studio.run.spec.output / first["path"])
    told = {
        name: first[name] for name in ("step", "why", "name", "prompt", "seed", "resolution", "sampling_steps", "kind")
    }
    assert told == {
        "step": 1,
        "why": "step",
        "name": "night bench",
        "prompt": "a small green star",
        "seed": 7,
        "resolution": [32, 32],
        "sampling_steps": 2,
        "kind": "picture",
    }
    assert {(tuple(e["resolution"]), e["seed"]) for e in events} == {((w, 32), s) for w in (32, 48) for s in (7, 8)}
    assert seen(studio.run.spec.output / events[2]["path"]).size == (48, 32)


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_the_format_and_the_quality_of_the_files(studio, attempt, kind):
    def made(**given):
        studio.drawn(validation_image_format=kind, validation_resolution="64x64", **given)
        return studio.run.spec.output / attempt.data("validation")[-1]["path"]

    path = made()
    with Image.open(path) as image:
        assert path.suffix == f".{kind}" and image.format.lower() == kind
    fine = path.stat().st_size
    assert (made(validation_image_quality=5).stat().st_size < fine) == (kind != "png")


def test_the_seed_is_fixed_unless_another_one_is_wanted_each_time(studio, attempt):
    again = studio.drawn()
    assert studio.drawn() == again
    assert studio.drawn(validation_seed=7) == again, "without one it is the job's"
    assert studio.drawn(validation_seed=8) != again
    assert studio.drawn(validation_randomize=True) != again
    assert len({event["seed"] for event in attempt.data("validation")}) == 3


@pytest.mark.parametrize(
    "given",
    [
        {"validation_guidance": 1.0},
        {"validation_num_inference_steps": 3},
        {"validation_prompt": "a large blue star"},
        {"validation_guidance_real": 4.0},
    ],
)
def test_each_option_of_sampling_changes_the_picture(studio, given):
    assert studio.drawn(**given)[NAME] != studio.drawn()[NAME]


def test_the_negative_prompt_counts_where_guidance_has_a_second_pass(studio):
    given = {"validation_guidance_real": 4.0}
    assert studio.drawn(**given) != studio.drawn(validation_negative_prompt="", **given)


def test_the_benchmark_is_of_the_base_model_and_the_strength_is_the_adapter_s(studio):
    base = studio.drawn()
    learned = studio.adapt()
    trained = studio.drawn()
    assert trained != base
    assert studio.drawn("benchmark") == base
    assert studio.drawn(validation_lycoris_strength=0.5) not in (base, trained)
    assert studio.drawn() == trained, "the strength is as it was"
    assert learned.requires_grad and studio.denoiser.training


def test_a_lycoris_network_has_a_strength_too(studio):
    from lycoris import LycorisNetwork, create_lycoris

    base = studio.drawn()
    LycorisNetwork.apply_preset({"target_module": ["FluxAttention"]})
    network = create_lycoris(studio.denoiser, 1.0, linear_dim=4, linear_alpha=1, algo="lokr", factor=4)
    network.apply_to()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    trained = studio.drawn(network=network)
    assert trained != base and studio.drawn("benchmark", network=network) == base
    assert studio.drawn(network=network, validation_lycoris_strength=0.5) not in (base, trained)
    assert studio.drawn(network=network) == trained and network.training


def test_averaged_weights_are_shown_as_ema_validation_says(studio, attempt):
    weight = studio.adapt()

    @contextlib.contextmanager
    def averaged():
        before = weight.detach().clone()
        weight.data.mul_(0.25)
        yield
        weight.data.copy_(before)

    trained = studio.drawn(ema=averaged, ema_validation="none")[NAME]
    assert "ema" not in attempt.data("validation")[-1]
    both = studio.drawn(ema=averaged, ema_validation="comparison")
    assert list(both) == ["validation-32x32-1-ema.png", NAME]
    assert both[NAME] == trained != both["validation-32x32-1-ema.png"]
    assert [e.get("ema") for e in attempt.data("validation")] == [None, None, True]
    only = studio.drawn(step=2, ema=averaged, ema_validation="ema_only")
    assert only == {"validation-32x32-1-ema.png": both["validation-32x32-1-ema.png"]}


@contextlib.contextmanager
def drawing_at_random():
    """What some library may do while pictures are made."""
    random.random(), np.random.random(), torch.rand(1)
    yield


def losses(studio, validation=None):
    """Of a few steps that draw from the global generator: noise, and what drops out."""
    torch.manual_seed(3)
    studio.denoiser.train()
    parameters = [p for p in studio.denoiser.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    found = []
    for step in range(4):
        latents = torch.randn(1, 16, 16)
        said = studio.denoiser.transformer_blocks[0].attn.to_q(torch.randn(1, 16, studio.denoiser.inner_dim))
        loss = (said.mean() - latents.mean()).square() + torch.nn.functional.dropout(said, 0.5).square().mean()
        loss.backward()
        if validation is not None:
            studio.position.step = step
            validation.run(studio.denoiser, studio.position, "step")
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found, [p.detach().clone() for p in parameters]


def test_the_training_is_the_same_bit_for_bit_with_and_without(studio):
    studio.adapt()
    kept = {name: value.clone() for name, value in studio.denoiser.state_dict().items()}
    plain, weights = losses(studio)
    studio.denoiser.load_state_dict(kept)
    validation = studio.validation(validation_preview=True, validation_randomize=True, ema=drawing_at_random)
    validated, same = losses(studio, validation)
    assert validated == plain
    assert all(torch.equal(a, b) for a, b in zip(weights, same, strict=True))


def test_nothing_drops_out_in_a_picture_and_modules_that_rested_rest_on(studio):
    studio.adapt()
    studio.denoiser.transformer_blocks[0].eval()
    before = {name: module.training for name, module in studio.denoiser.named_modules()}
    drawn = studio.drawn()
    assert {name: module.training for name, module in studio.denoiser.named_modules()} == before
    studio.denoiser.eval()
    assert studio.drawn() == drawn


def test_every_generator_is_afterwards_as_it_was(studio):
    generators = Generators.now().plain()
    studio.drawn(ema=drawing_at_random, validation_randomize=True)
    assert Generators.now().plain() == generators


def test_the_grid_has_the_newest_pictures_of_the_trained_model(studio):
    validation = studio.validation()
    assert validation.grid() is None
    studio.drawn("benchmark", step=0)
    assert validation.grid() is None, "the base model's are not its own"
    studio.drawn(step=1)
    studio.drawn(step=12, num_validation_images=3)
    made = validation.grid()
    assert made == studio.run.spec.output / "validation" / "step-12" / "grid.png"
    assert seen(made).size == (64, 64)
    assert validation.grid() == made and seen(made).size == (64, 64), "the grid is none of the pictures"
    assert not [p for p in studio.run.spec.output.iterdir() if p.name != "validation"]
