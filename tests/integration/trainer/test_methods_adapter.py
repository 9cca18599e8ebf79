"""Method `adapter`: training goes on from the adapter that the document names, on the base that the adapter names."""

import json
import shutil

import pytest
import torch

from tests.methods import CPU, apart, document, go_on, load, logits, stock_adapter, stock_model, train
from trainyard.trainer.failures import ModelError
from trainyard.trainer.text import model as models

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


@pytest.fixture
def adapter(tiny, tmp_path):
    """A trained adapter of the tiny Llama, and the logits that it came to."""
    trained = train(document(tiny("llama"), target_modules=["q_proj", "v_proj"]), tmp_path)
    return trained.result(tmp_path / "adapter"), trained.after


def renamed(folder, name):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": name}))


def test_it_goes_on_where_the_adapter_was(tiny, tmp_path, adapter):
    folder, reached = adapter
    trained = train(document(folder, method="adapter"), tmp_path)
    assert torch.equal(trained.before, reached)
    assert trained.losses[-1] < trained.losses[0] and apart(trained.after, reached) > 0.1
    final = trained.result(tmp_path / "final")
    assert torch.equal(logits(stock_adapter(tiny("llama"), final)), trained.after)
    written = json.loads((final / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(tiny("llama")) and written["r"] == 4
    assert set(written["target_modules"]) == {"q_proj", "v_proj"}, "it keeps its own configuration"


def test_it_is_merged_when_that_is_asked_for(tmp_path, adapter):
    trained = train(document(adapter[0], method="adapter", merge=True), tmp_path)
    assert apart(logits(stock_model(trained.result(tmp_path / "final"))), trained.after) < 1e-5


def test_it_is_resumed_from_its_checkpoint_and_not_from_where_it_began(tmp_path, adapter):
    request = document(adapter[0], method="adapter")
    trained = train(request, tmp_path)
    (tmp_path / "checkpoint").mkdir()
    models.save_for_resume(trained.model, tmp_path / "checkpoint")
    _, _, model = load(request, tmp_path)
    models.load_adapter(model, tmp_path / "checkpoint", CPU)
    assert torch.equal(logits(model), trained.after)


def test_layers_besides_are_added_to_it(tiny, tmp_path, adapter):
    layers = ["model.layers.1.self_attn", "model.norm"]
    trained = train(document(adapter[0], method="adapter", trainable_layers=layers), tmp_path)
    assert len(trained.warnings) == 1 and "q_proj" in trained.warnings[0] and "the adapter on it" in trained.warnings[0]
    names = {name for name, p in trained.model.named_parameters() if p.requires_grad}
    assert any("norm.modules_to_save" in name for name in names)
    assert any("k_proj.modules_to_save" in name for name in names)
    assert torch.equal(logits(stock_adapter(tiny("llama"), trained.result(tmp_path / "final"))), trained.after)


def test_its_base_may_lie_beside_it(tiny, tmp_path, adapter):
    shutil.copytree(tiny("llama"), tmp_path / "base of it")
    renamed(adapter[0], "../base of it")
    source, _, model = load(document(adapter[0], method="adapter"), tmp_path)
    assert source.folder == tmp_path / "base of it"
    assert torch.equal(logits(model), adapter[1])


def test_a_base_that_is_nowhere_is_named(tmp_path, adapter):
    renamed(adapter[0], str(tmp_path / "moved away"))
    with pytest.raises(ModelError, match=r"model_name: .*moved away.*there is no such folder"):
        load(document(adapter[0], method="adapter"), tmp_path)
    renamed(adapter[0], None)
    with pytest.raises(ModelError, match="names no base model"):
        load(document(adapter[0], method="adapter"), tmp_path)


def test_an_adapter_of_another_base_is_refused(tiny, tmp_path, adapter):
    renamed(adapter[0], str(tiny("mistral")))
    path = adapter[0] / "adapter_config.json"
    path.write_text(path.read_text().replace('"r": 4', '"r": 8'))
    with pytest.raises(ModelError, match=r"does not fit the base: it has .*lora_A.weight"):
        load(document(adapter[0], method="adapter"), tmp_path)


def test_a_model_is_no_adapter_and_an_adapter_no_model(tiny, tmp_path, adapter):
    with pytest.raises(ModelError, match=r"goes on with an adapter \(adapter_config.json\), it holds a model"):
        load(document(tiny("llama"), method="adapter"), tmp_path)
    with pytest.raises(ModelError, match="it holds an adapter, not a model; method: adapter goes on training it"):
        load(document(adapter[0]), tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning:peft")
def test_prompts_without_what_computed_them_can_not_be_trained_on(tiny, tmp_path):
    config = {"peft_type": "P_TUNING", "num_virtual_tokens": 4, "encoder_hidden_size": 16}
    folder = train(document(tiny("llama"), method="peft", peft={"config": config}), tmp_path).result(tmp_path / "p")
    with pytest.raises(ModelError, match="P_TUNING adapter holds its prompts without what computed them"):
        load(document(folder, method="adapter"), tmp_path)
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}
    trained = train(document(tiny("llama"), method="peft", peft={"config": config}), tmp_path)
    _, _, model = load(document(trained.result(tmp_path / "q"), method="adapter"), tmp_path)
    assert torch.equal(logits(model), trained.after)
    assert go_on(model, None, 1, 1e-2)
