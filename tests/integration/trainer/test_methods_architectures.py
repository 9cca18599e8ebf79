"""LoRA and full training over five architectures: stock peft and transformers load what is left, with equal logits."""

import pytest
import torch
from safetensors.torch import load_file

from tests.methods import apart, document, logits, stock_adapter, stock_model, train
from tests.tiny import KINDS

#: Two orders of the same sums in fp32.
CLOSE = 1e-5
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.mark.parametrize("kind", KINDS)
def test_a_lora_adapter_gives_the_same_logits_in_the_stock_loader(tiny, tmp_path, kind):
    trained = train(document(tiny(kind)), tmp_path)
    assert trained.losses[-1] < trained.losses[0] and apart(trained.after, trained.before) > 0.1
    final = trained.result(tmp_path / "final")
    assert torch.equal(logits(stock_adapter(tiny(kind), final)), trained.after)
    targeted = {name.split(".lora_")[0].rpartition(".")[2] for name in load_file(final / "adapter_model.safetensors")}
    assert targeted == {
        "gpt2": {"c_attn", "c_proj", "c_fc"},
    }.get(kind, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}), "all linear layers"


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_model_gives_the_same_logits_in_the_stock_loader(tiny, tmp_path, kind):
    trained = train(document(tiny(kind), method="full"), tmp_path)
    assert trained.losses[-1] < trained.losses[0] - 0.2
    assert torch.equal(logits(stock_model(trained.result(tmp_path / "final"))), trained.after)


@pytest.mark.parametrize("kind", KINDS)
def test_a_merged_adapter_is_a_whole_model(tiny, tmp_path, kind):
    trained = train(document(tiny(kind), merge=True), tmp_path)
    final = trained.result(tmp_path / "final")
    assert not (final / "adapter_config.json").exists()
    assert apart(logits(stock_model(final)), trained.after) < CLOSE


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_what_is_trained_is_held_in_fp32_beside_a_base_in_half_precision(tiny, tmp_path, kind, precision):
    trained = train(document(tiny(kind), precision=precision), tmp_path)
    assert {p.dtype for p in trained.model.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in trained.model.parameters() if not p.requires_grad} == {trained.half}
    found = stock_adapter(tiny(kind), trained.result(tmp_path / "final"), dtype=trained.half)
    assert torch.equal(logits(found, trained.half), trained.after)


def test_a_merged_bf16_run_is_close_to_what_it_computed(tiny, tmp_path):
    trained = train(document(tiny("llama"), precision="bf16", merge=True), tmp_path)
    found = stock_model(trained.result(tmp_path / "final"))
    assert found.dtype == torch.float32, "the precision of the base's own files"
    assert (
        apart(logits(found, trained.half), trained.after) < 0.05
    )  # bf16 has 8 bits, and the residual stream was in it
