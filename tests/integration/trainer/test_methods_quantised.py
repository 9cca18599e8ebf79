"""QLoRA and int8 for real on the CPU: trained, loaded by the stock libraries, merged into a whole base."""

import importlib.util

import pytest
import torch

from tests.methods import apart, document, go_on, load, logits, stock_adapter, stock_model, train
from tests.tiny import KINDS, make_tiny_llama
from trainyard.trainer.text import model as models

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"),
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
]
FP4 = {"use_double_quant": True, "bnb_4bit_quant_type": "fp4", "bnb_4bit_compute_dtype": "bfloat16"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory):
    """Wide enough for bitsandbytes' blocks of 64."""
    return make_tiny_llama(tmp_path_factory.mktemp("wide") / "llama", hidden=64)


def four_bits(**more):
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, **more)}


def unpacked(model):
    """bitsandbytes packs 4-bit weights anew for evaluation on some processors; compared is what was trained."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_a_qlora_adapter_gives_the_same_logits_on_the_same_quantised_base(tiny, tmp_path, kind):
    import bitsandbytes as bnb

    trained = train(document(tiny(kind), method="qlora", precision="bf16"), tmp_path)
    layers = [m for m in trained.model.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert layers and {m.weight.quant_type for m in layers} == {"nf4"}
    assert trained.losses[-1] < trained.losses[0]
    base = four_bits(bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    found = unpacked(stock_adapter(tiny(kind), trained.result(tmp_path / "final"), dtype=torch.bfloat16, **base))
    assert torch.equal(logits(found, trained.half), trained.after)


def test_the_stock_loader_as_it_is_comes_close(llama, tmp_path):
    trained = train(document(llama, method="qlora", precision="bf16"), tmp_path)
    base = four_bits(bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    found = stock_adapter(llama, trained.result(tmp_path / "final"), dtype=torch.bfloat16, **base)
    assert (
        apart(logits(found, trained.half), trained.after) < 0.05
    )  # scales in bf16 where the processor has AVX512-BF16


def test_number_format_double_quantisation_and_compute_type_are_those_of_the_document(llama, tmp_path):
    import bitsandbytes as bnb

    _, _, model = load(document(llama, method="qlora", precision="bf16", qlora=FP4), tmp_path)
    layer = next(m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit))
    assert layer.weight.quant_type == "fp4" and layer.weight.quant_state.nested
    assert layer.compute_dtype is torch.bfloat16


@pytest.mark.parametrize("custom", [{"method": "qlora"}, {"method": "qlora", "qlora": {"use_double_quant": True}}])
def test_a_merged_qlora_is_what_the_quantised_base_computed(llama, tmp_path, custom):
    trained = train(document(llama, precision="fp32", merge=True, **custom), tmp_path)
    final = trained.result(tmp_path / "final")
    assert "quantization_config" not in (final / "config.json").read_text()
    found = stock_model(final)
    assert found.dtype == torch.float32
    assert apart(logits(found), trained.after) < 1e-5


def test_int8_trains_saves_and_loads(llama, tmp_path):
    from transformers import BitsAndBytesConfig

    trained = train(document(llama, precision="int8"), tmp_path)
    assert trained.losses[-1] < trained.losses[0]
    base = {"dtype": torch.bfloat16, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    found = stock_adapter(llama, trained.result(tmp_path / "final"), **base)
    assert torch.equal(logits(found, trained.half), trained.after)


def test_a_merged_int8_run_is_close_to_what_it_computed(llama, tmp_path):
    trained = train(document(llama, precision="int8", merge=True), tmp_path)
    found = stock_model(trained.result(tmp_path / "final"))
    assert apart(logits(found, trained.half), trained.after) < 0.1  # int8 rounds the inputs too, which nobody can merge


def test_training_goes_on_rightly_after_an_evaluation(llama, tmp_path):
    """bitsandbytes' layout for evaluation has no gradient: losses must be those of a run that never evaluated."""
    request = document(llama, method="qlora", precision="bf16", lora_dropout=0.0)
    _, _, plain = load(request, tmp_path)
    undisturbed = go_on(plain, torch.bfloat16, 4, 1e-2)
    _, _, model = load(request, tmp_path)
    logits(model, torch.bfloat16)
    assert go_on(model, torch.bfloat16, 4, 1e-2) == undisturbed


def test_layers_trained_besides_are_not_quantised(llama, tmp_path):
    request = document(llama, method="qlora", precision="fp32", trainable_layers=["model.layers.1.mlp"])
    trained = train(request, tmp_path)
    base = four_bits(bnb_4bit_quant_type="nf4", llm_int8_skip_modules=["lm_head", "model.layers.1.mlp"])
    found = unpacked(stock_adapter(llama, trained.result(tmp_path / "final"), **base))
    assert torch.equal(logits(found), trained.after)


def test_weights_in_4_bits_count_as_many_as_they_are(llama, tmp_path):
    *_, packed = load(document(llama, method="qlora"), tmp_path / "packed")
    *_, plain = load(document(llama), tmp_path / "plain")
    assert models.parameters(packed) == models.parameters(plain) > sum(p.numel() for p in packed.parameters())
