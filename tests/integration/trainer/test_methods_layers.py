"""`trainable_layers` and `target_modules`: what they mean, and what is said of names that mean nothing."""

import pytest
import torch

from tests.methods import apart, document, load, logits, stock_adapter, stock_model, train
from trainyard.trainer.failures import ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
LAYERS = {
    "llama": ["model.layers.1", "model.norm", "lm_head"],
    "gpt2": ["transformer.h.1.", "transformer.ln_f", "transformer.wpe"],
    "gemma2": ["model.embed_tokens"],
}


def trained_names(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", LAYERS)
def test_beside_an_adapter_they_are_trained_too_and_load_back(tiny, tmp_path, kind):
    trained = train(document(tiny(kind), trainable_layers=LAYERS[kind]), tmp_path)
    assert trained.warnings == []
    names = trained_names(trained.model)
    assert all(any(layer in name for name in names) for layer in LAYERS[kind])
    assert any("lora_A" in name for name in names)
    assert torch.equal(logits(stock_adapter(tiny(kind), trained.result(tmp_path / "final"))), trained.after)


@pytest.mark.parametrize("kind", LAYERS)
def test_beside_an_adapter_they_are_merged_with_it(tiny, tmp_path, kind):
    trained = train(document(tiny(kind), trainable_layers=LAYERS[kind], merge=True), tmp_path)
    assert apart(logits(stock_model(trained.result(tmp_path / "final"))), trained.after) < 1e-5


def test_a_layer_that_is_trained_itself_gets_no_adapter(tiny, tmp_path):
    _, _, model = load(document(tiny("llama"), trainable_layers=["model.layers.1"]), tmp_path)
    adapted = {name for name in trained_names(model) if "lora_" in name}
    assert adapted and all(".layers.0." in name for name in adapted)


def test_beside_an_adapter_a_name_that_means_nothing_is_a_warning_with_the_nearest(tiny, tmp_path):
    trained = train(document(tiny("llama"), trainable_layers=["model.layer.1", "norm"]), tmp_path, steps=1)
    assert [w.partition(":")[0] for w in trained.warnings] == ["customization.trainable_layers"] * 2
    assert "'model.layer.1'" in trained.warnings[0] and "model.layers.1" in trained.warnings[0]
    assert "model.norm" in trained.warnings[1]


def test_with_full_nothing_else_is_trained(tiny, tmp_path):
    trained = train(document(tiny("llama"), method="full", trainable_layers=["model.layers.1"]), tmp_path)
    names = trained_names(trained.model)
    assert names and all(name.startswith("model.layers.1.") for name in names)
    assert trained.losses[-1] < trained.losses[0]
    assert torch.equal(logits(stock_model(trained.result(tmp_path / "final"))), trained.after)


def test_a_tied_weight_is_trained_by_either_of_its_names(tiny, tmp_path):
    _, _, model = load(document(tiny("llama"), method="full", trainable_layers=["lm_head"]), tmp_path)
    assert trained_names(model) == {"model.embed_tokens.weight"}


def test_a_prefix_ends_at_a_dot(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"trainable_layers: 'model.lay' is the beginning of no module's name"):
        load(document(tiny("llama"), method="full", trainable_layers=["model.lay"]), tmp_path)


def test_with_full_each_name_that_means_nothing_is_an_error_with_the_nearest(tiny, tmp_path):
    with pytest.raises(ConfigError) as refused:
        load(document(tiny("llama"), method="full", trainable_layers=["model.layers.7", "lm_haed"]), tmp_path)
    assert "'model.layers.7'" in str(refused.value) and "model.layers.1" in str(refused.value)
    assert "'lm_haed'" in str(refused.value) and "lm_head" in str(refused.value)


def test_target_modules_that_match_nothing_are_an_error_with_the_nearest(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"customization\.target_modules: 'q_prj' is no module.*q_proj"):
        load(document(tiny("llama"), target_modules=["q_prj"]), tmp_path)
    with pytest.raises(ConfigError, match=r"customization\.peft\.config\.target_modules: 'nope'.*c_attn"):
        load(document(tiny("gpt2"), peft={"config": {"target_modules": ["nope"]}}), tmp_path)


def test_some_target_modules_that_match_nothing_are_a_warning(tiny, tmp_path):
    trained = train(document(tiny("llama"), target_modules=["q_proj", "c_attn"]), tmp_path, steps=1)
    assert len(trained.warnings) == 1 and "'c_attn'" in trained.warnings[0]
    assert all("q_proj" in name for name in trained_names(trained.model))


def test_an_adapter_that_is_stored_alone_takes_no_layers_besides(tiny, tmp_path):
    config = {"peft_type": "TRAINABLE_TOKENS", "token_indices": [5]}
    request = document(tiny("llama"), method="peft", peft={"config": config}, trainable_layers=["lm_head"])
    with pytest.raises(ConfigError, match="TRAINABLE_TOKENS is stored without other weights"):
        load(request, tmp_path)
