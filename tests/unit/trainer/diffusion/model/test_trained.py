"""What is trained of a denoiser: its parameters, and that its files give back the very same numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.diffusion import Options
from schemas.diffusion.lycoris import LycorisFile, LycorisPreset
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.families.family import Shown
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.model.quantised import loads_on, quantise
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ConfigError

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
ATTENTION = LycorisFile(algo="lokr", linear_dim=4, factor=4, apply_preset=LycorisPreset(target_module=("Attention",)))


def made(folder: Path, **options: Any) -> Any:
    """A trained part of Flux by these options, and the options."""
    options = {"mixed_precision": "no", "model_type": "lora", "lora_rank": 4, "optimizer": "torch-adamw"} | options
    told, family = Options(model_family="flux", **options), families.find("flux")
    weights = Weights(name=str(folder), root=folder)
    precision = Precision.of(told, CPU)
    torch.manual_seed(0)
    denoiser = quantise(family.denoiser(weights, told, CPU, precision.held), told, CPU)
    return put_on(denoiser, family, weights, told, precision)


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_tiny("flux", tmp_path_factory)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_dora": True},
        {"lora_type": "lycoris", "lycoris_config": ATTENTION},
        {"model_type": "full"},
        {"model_type": "full", "mixed_precision": "bf16", "optimizer": "adamw_bf16"},
    ],
    ids=["lora", "dora", "lycoris", "full", "full in bf16"],
)
def test_what_is_saved_is_loaded_bit_for_bit(flux, tmp_path, options):
    one, other = made(flux, **options), made(flux, **options)
    for number, parameter in enumerate(one.parameters.values()):
        parameter.data.copy_(torch.full_like(parameter, 0.1 * (number + 1)))
    one.save(tmp_path)
    other.load(tmp_path)
    assert one.parameters.keys() == other.parameters.keys()
    assert all(p.equal(other.parameters[name]) for name, p in one.parameters.items())


def test_an_adapter_is_held_in_fp32_over_a_base_in_half_precision(flux):
    for options in ({}, {"lora_type": "lycoris", "lycoris_config": ATTENTION}):
        trained = made(flux, mixed_precision="bf16", **options)
        assert {p.dtype for p in trained.parameters.values()} == {torch.float32}
        frozen = [p for p in trained.denoiser.parameters() if not p.requires_grad]
        assert {p.dtype for p in frozen} == {torch.bfloat16}


def test_trained_weights_are_held_in_bf16_only_where_the_optimizer_keeps_small_steps():
    def held(**options: Any) -> torch.dtype:
        return Precision.of(Options(**({"model_type": "full", "mixed_precision": "bf16"} | options)), CPU).held

    assert held(optimizer="adamw_bf16") is torch.bfloat16
    assert held(optimizer="optimi-lion") is torch.bfloat16
    assert held(optimizer="torch-adamw") is torch.float32
    assert held(optimizer="adamw_bf16", mixed_precision="fp16") is torch.float32
    quantised = {"model_type": "lora", "base_model_precision": "int8-quanto"}
    assert held(base_model_default_dtype="fp32", **quantised) is torch.float32
    assert held(base_model_default_dtype="bf16", **quantised) is torch.bfloat16


def test_rank_alpha_targets_and_start_are_what_the_options_say(flux):
    trained = made(flux, lora_rank=3, lora_alpha=6.0, peft_lora_target_modules=("to_q",), lora_dropout=0.25)
    config = trained.denoiser.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (3, 6.0, 0.25)
    assert all(".to_q.lora_" in name for name in trained.parameters)
    assert {p.shape[0] for name, p in trained.parameters.items() if "lora_A" in name} == {3}
    plain, gaussian = made(flux), made(flux, lora_init_type="gaussian")
    first = next(name for name in plain.parameters if "lora_A" in name)
    assert not plain.parameters[first].equal(gaussian.parameters[first])
    assert all(not p.any() for name, p in gaussian.parameters.items() if "lora_B" in name)


def test_a_lycoris_file_says_algorithm_factor_and_modules(flux):
    def names(**settings: Any) -> set[str]:
        file = LycorisFile(**({"linear_dim": 4, "algo": "lokr", "apply_preset": ATTENTION.apply_preset} | settings))
        return set(made(flux, lora_type="lycoris", lycoris_config=file).parameters)

    lokr, loha = names(factor=4), names(algo="loha")
    assert all("lokr_w" in name for name in lokr) and all("hada_w" in name for name in loha)
    assert all("_attn_" in name for name in lokr)
    some = LycorisPreset(target_name=("transformer_blocks.0.*",), exclude_name=("*norm*",))
    assert all(name.startswith("lycoris_transformer_blocks_0_") for name in names(apply_preset=some))
    other = LycorisPreset(target_module=("FeedForward",), module_algo_map={"FeedForward": {"algo": "loha"}})
    assert all("_ff_" in name or "_ff_context_" in name for name in names(apply_preset=other))
    assert all("hada_w" in name for name in names(apply_preset=other))


def test_a_network_leaves_lycoris_as_it_was(flux):
    from lycoris.wrapper import LycorisNetwork

    before = list(LycorisNetwork.TARGET_REPLACE_MODULE), dict(LycorisNetwork.MODULE_ALGO_MAP)
    made(flux, lora_type="lycoris", lycoris_config=ATTENTION)
    assert before == (list(LycorisNetwork.TARGET_REPLACE_MODULE), dict(LycorisNetwork.MODULE_ALGO_MAP))


def test_a_base_in_8_bits_holds_its_linear_layers_so_and_its_ends_whole(flux):
    denoiser = made(flux, base_model_precision="int8-quanto", base_model_default_dtype="fp32").denoiser
    kinds = {type(m).__name__ for n, m in denoiser.named_modules() if n.endswith("attn.to_q.base_layer")}
    assert kinds == {"QLinear"}
    assert type(denoiser.x_embedder).__name__ == "Linear" and type(denoiser.proj_out).__name__ == "Linear"
    named = {name: type(module).__name__ for name, module in denoiser.named_modules()}
    for name in ("transformer_blocks.0.norm1.linear", "transformer_blocks.0.norm1_context.linear"):
        assert named[name] == "QLinear", "a fourth of Flux is in the linear layers of its norms"
    assert named["single_transformer_blocks.0.norm.linear"] == "QLinear" and named["norm_out.linear"] == "Linear"


@pytest.mark.parametrize("lora_type", ["standard", "lycoris"])
@pytest.mark.parametrize("kind", ["int8-quanto", "int8-torchao"])
def test_over_a_base_in_8_bits_an_adapter_changes_what_is_said_and_learns(flux, kind, lora_type, tmp_path):
    file = ATTENTION if lora_type == "lycoris" else None
    options = {"lora_type": lora_type, "lycoris_config": file, "lora_dropout": 0.0, "base_model_default_dtype": "fp32"}
    whole, trained = made(flux, **options), made(flux, base_model_precision=kind, **options)
    config = whole.denoiser.config
    torch.manual_seed(0)
    shown = Shown(
        latents=torch.randn(1, config.in_channels // 4, 8, 8),
        timesteps=torch.tensor([500.0]),
        texts={
            "words": torch.randn(1, 4, config.joint_attention_dim),
            "summary": torch.randn(1, config.pooled_projection_dim),
        },
        sizes=torch.zeros(1, 6),
    )
    family = families.find("flux")
    wanted, said = family.predict(whole.denoiser, shown), family.predict(trained.denoiser, shown)
    assert not said.equal(wanted), "it is in 8 bits"
    torch.testing.assert_close(said, wanted, rtol=0.1, atol=0.1)
    optimizer = torch.optim.AdamW(trained.parameters.values(), lr=0.05)
    losses = []
    for _ in range(4):
        loss = family.predict(trained.denoiser, shown).square().mean()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]
    trained.save(tmp_path)
    again = made(flux, base_model_precision=kind, **options)
    again.load(tmp_path)
    assert family.predict(again.denoiser, shown).equal(family.predict(trained.denoiser, shown))


def test_torchao_holds_the_same_layers_in_8_bits_as_quanto(flux):
    denoiser = made(flux, base_model_precision="int8-torchao", base_model_default_dtype="fp32").denoiser
    kinds = {name: type(p).__name__ for name, p in denoiser.named_parameters() if name.endswith("weight")}
    assert kinds["transformer_blocks.0.attn.to_q.base_layer.weight"] == "Int8Tensor"
    assert kinds["transformer_blocks.0.norm1.linear.weight"] == "Int8Tensor"
    assert {kinds[f"{name}.weight"] for name in ("x_embedder", "proj_out", "norm_out.linear")} == {"Parameter"}


def test_a_base_that_is_quantised_by_the_cpu_is_never_whole_on_the_accelerator():
    def loaded(**options: Any) -> str:
        return loads_on(Options(model_type="lora", **options), torch.device("cuda", 1)).type

    assert loaded(base_model_precision="int8-quanto", quantize_via="cpu") == "cpu"
    assert loaded(base_model_precision="int8-quanto", quantize_via="accelerator") == "cuda"
    assert loaded(quantize_via="cpu") == "cuda"


def test_named_sets_that_a_family_does_not_have_are_refused(flux):
    with pytest.raises(ConfigError, match=r"extra_parameters\.flux_lora_target: 'none' is not one of .*all"):
        made(flux, flux_lora_target="none")
