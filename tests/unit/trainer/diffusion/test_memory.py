"""The memory of a step, estimated on shapes alone: as much as real tensors take, and every part as it is kept."""

import shutil

import pytest
import torch
from attrs import evolve, frozen

from schemas.diffusion.lycoris import USUAL
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.data.picture import Frame, Picture
from trainyard.trainer.diffusion.families.family import Shown
from trainyard.trainer.diffusion.memory import traced as module
from trainyard.trainer.diffusion.memory.estimate import estimated
from trainyard.trainer.diffusion.memory.gauge import Gauge
from trainyard.trainer.diffusion.memory.traced import traced
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.model.quantised import quantise
from trainyard.trainer.diffusion.options import Options
from trainyard.trainer.diffusion.step import Forward
from trainyard.trainer.diffusion.weights import Weights

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
LORA = Options(model_type="lora", mixed_precision="no", train_batch_size=2, lora_rank=4, gradient_checkpointing=False)


@frozen
class Pictures:
    """What is asked of a gallery."""

    pictures: tuple[Picture, ...]
    sets: tuple = ()


def picture(width, height, *references):
    frame = Frame((width, height), (width, height), 0, 0, width, height)
    return Picture("a", "a.png", "", frame, (), references)


SMALL = Pictures((picture(32, 32), picture(64, 32), picture(32, 48)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    def made(name, **shape):
        folder = shared_tiny(name, tmp_path_factory, **shape)
        return families.find(name), Weights(name="x", root=folder)

    return made


def parts(made, options, gallery=SMALL, kind="cuda", **more):
    return estimated(*made, options, gallery, device_kind=kind, **more)


def really(made, options, size=(2, 4, 8)):
    """The peak of a pass with tensors that are there, as the same ledger counts it, and what is trained."""
    family, weights = made
    precision = Precision.of(options, CPU)
    denoiser = quantise(family.denoiser(weights, options, CPU, precision.held), options, CPU)
    trained = put_on(denoiser, family, weights, options, precision)
    forward = Forward(family, trained).train()
    count, height, width = size
    channels, texts = family.outline(denoiser, options, count)
    given = (torch.zeros(count, channels, height, width), torch.zeros(count), texts, torch.ones(count, 6))
    for leaf in trained.parameters.values():
        leaf.register_post_accumulate_grad_hook(module._forget)
    ledger = module._Ledger()
    with ledger:
        module._BothWays(forward, precision.computed)(Shown(*given))
    return ledger.peak, trained


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("flux", {"gradient_checkpointing": True}),
        ("flux", {"mixed_precision": "bf16", "lora_type": "lycoris", "lycoris_config": USUAL}),
        ("pixart_sigma", {"model_type": "full", "mixed_precision": "bf16", "optimizer": "adamw"}),
    ],
    ids=["checkpointing", "lycoris beside bf16", "full"],
)
def test_shapes_take_as_much_as_tensors_that_are_there(model, name, more):
    made, options = model(name), evolve(LORA, **more)
    peak, trained = really(made, options)
    found = parts(made, options)

    assert found.activations == pytest.approx(peak, rel=0.02)
    assert found.trainable == sum(p.numel() * p.element_size() for p in trained.parameters.values())
    assert found.parts["weights"] + found.trainable >= sum(
        p.numel() * p.element_size() for p in trained.denoiser.parameters()
    )


def test_every_further_block_adds_what_the_second_did(monkeypatch):
    from diffusers import FluxTransformer2DModel

    family = families.find("flux")
    options = evolve(LORA, gradient_checkpointing=True)
    with torch.device("meta"):
        denoiser = FluxTransformer2DModel(
            in_channels=16,
            num_layers=3,
            num_single_layers=3,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
        )
        forward = Forward(family, put_on(denoiser, family, None, options, Precision(torch.float32, None)))

    def shown():
        channels, texts = family.outline(denoiser, options, 1)
        return Shown(torch.zeros(1, channels, 8, 8), torch.zeros(1), texts, torch.ones(1, 6))

    few = traced(forward, shown, None)
    monkeypatch.setattr(module, "_FEW", 100)
    assert few == traced(forward, shown, None)
    assert (len(denoiser.transformer_blocks), len(denoiser.single_transformer_blocks)) == (3, 3)


def test_parts_are_as_options_say(model):
    made = model("pixart_sigma")
    plain = parts(made, LORA)
    assert plain.optimizer == pytest.approx(2 * plain.trainable, rel=0.01)
    assert (plain.average, plain.gradients, plain.overhead < 100 << 20) == (0, plain.trainable, True)
    assert plain.bytes == sum(plain.parts.values()) == plain.plain()["estimate_bytes"]

    more = evolve(LORA, optimizer="torch-sgd", use_ema=True, ema_device="accelerator", train_batch_size=4)
    other = parts(made, more, processes=2)
    assert (other.optimizer, other.average, other.gradients) == (0, plain.trainable, 2 * plain.trainable)
    assert other.activations > 1.7 * plain.activations

    whole = evolve(LORA, model_type="full", optimizer="optimi-lion", use_ema=True)
    here = parts(made, whole, kind="cpu")
    assert (here.gradients, here.average) == (here.trainable, here.trainable)
    assert here.optimizer == pytest.approx(here.trainable, rel=0.01)
    assert here.trainable > 5 * plain.trainable and here.overhead > 100 << 20


def test_the_largest_picture_counts_with_those_that_it_edits(model):
    made = model("flux", flavour="kontext")
    options = evolve(LORA, model_flavour="kontext", tokenizer_max_length=8)
    alone, edits = (Pictures((picture(32, 32), picture(128, 128, *r))) for r in ((), (picture(128, 128),)))

    assert parts(made, options, edits).activations > 1.5 * parts(made, options, alone).activations


def test_a_base_in_eight_bits_takes_about_a_byte_a_number(model):
    made, options = model("flux"), evolve(LORA, mixed_precision="bf16", base_model_precision="int8-quanto")
    peak, trained = really(made, options)
    held = [p for p in trained.denoiser.parameters() if not p.requires_grad]
    there = sum(p._data.nbytes + p._scale.nbytes if hasattr(p, "_scale") else p.nbytes for p in held)

    found = parts(made, options)
    assert found.weights == pytest.approx(there, rel=0.1)
    assert found.activations == pytest.approx(peak, rel=0.25)
    assert found.weights < 0.75 * parts(made, evolve(options, base_model_precision="no_change")).weights


def test_configurations_are_enough(model, tmp_path):
    family, weights = model("sdxl")
    bare = tmp_path / "bare"
    shutil.copytree(weights.root, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    of_a_hub = Weights(name="x", root=bare, whole=False)

    assert family.check(of_a_hub, LORA) == [] != family.check(evolve(of_a_hub, whole=True), LORA)
    assert parts((family, of_a_hub), LORA) == parts((family, weights), LORA)


def test_a_gauge_knows_the_most_that_a_step_took_and_how_wrong_the_estimate_was(model):
    gauge = Gauge(CPU, parts(model("pixart_sigma"), LORA, kind="cpu"))
    assert gauge.plain() == {}
    gauge.begin()
    held = torch.ones(16 << 20)
    gauge.read()
    with_it = gauge.bytes
    del held
    gauge.begin()
    gauge.read()
    assert gauge.bytes == with_it
    told = gauge.plain()
    assert told["peak_bytes"] == with_it > 64 << 20
    assert told["error"] == round(told["estimate_bytes"] / with_it - 1, 4)
