"""`customization.peft.config`: the library's types of adapters, trained, saved, gone on with, loaded and merged."""

import json

import pytest
import torch

from tests.methods import CPU, apart, document, go_on, load, logits, stock_adapter, stock_model, train
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text import model as models

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
    pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning"),  # AdaLoRA's own names for them
]
ADDED = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "both ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "IA3": {"peft_type": "IA3"},
    "ADALORA": {"peft_type": "ADALORA", "total_step": 6},
    "OFT": {"peft_type": "OFT", "oft_block_size": 8},
    "BOFT": {"peft_type": "BOFT"},
    "LOHA": {"peft_type": "LOHA"},
    "LOKR": {"peft_type": "LOKR"},
    "VERA": {"peft_type": "VERA", "r": 8},
    "LN_TUNING": {"peft_type": "LN_TUNING"},
    "TRAINABLE_TOKENS": {"peft_type": "TRAINABLE_TOKENS", "token_indices": [11, 18, 25]},
}
IN_FRONT = {
    "PREFIX_TUNING": {"num_virtual_tokens": 4},
    "PROMPT_TUNING": {"num_virtual_tokens": 4},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 16},
}


@pytest.mark.parametrize("config", ADDED.values(), ids=ADDED)
def test_what_is_added_to_weights_loads_back_and_merges(tiny, tmp_path, config):
    trained = train(document(tiny("llama"), method="peft", peft={"config": config}, merge=True), tmp_path)
    assert apart(trained.after, trained.before) > 1e-3
    models.save_model(trained.model, tmp_path / "adapter")
    assert apart(logits(stock_adapter(tiny("llama"), tmp_path / "adapter")), trained.after) < 1e-6
    assert apart(logits(stock_model(trained.result(tmp_path / "final"))), trained.after) < 1e-5


@pytest.mark.parametrize("kind", IN_FRONT)
def test_what_stands_before_the_text_loads_back(tiny, tmp_path, kind):
    config = {"peft_type": kind, **IN_FRONT[kind]}
    trained = train(document(tiny("llama"), method="peft", peft={"config": config}), tmp_path)
    assert apart(trained.after, trained.before) > 1e-3
    assert torch.equal(logits(stock_adapter(tiny("llama"), trained.result(tmp_path / "final"))), trained.after)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_a_start_that_changes_the_base_is_written_as_a_plain_lora(tiny, tmp_path, start):
    trained = train(document(tiny("llama"), method="lora", peft={"config": {"init_lora_weights": start}}), tmp_path)
    final = trained.result(tmp_path / "final")
    written = json.loads((final / "adapter_config.json").read_text())
    assert written["r"] == 8 and written["init_lora_weights"] is True
    assert apart(logits(stock_adapter(tiny("llama"), final)), trained.after) < 1e-5


@pytest.mark.parametrize("config", [*ADDED.values(), *({"peft_type": k, **c} for k, c in IN_FRONT.items())])
def test_a_run_goes_on_from_its_checkpoint_with_the_same_losses(tiny, tmp_path, config):
    request = document(tiny("llama"), method="peft", peft={"config": config}, lora_dropout=0.0)
    undisturbed = train(request, tmp_path, steps=3)
    (tmp_path / "checkpoint").mkdir()
    models.save_for_resume(undisturbed.model, tmp_path / "checkpoint")
    wanted = go_on(undisturbed.model, None, 2, 1e-2, first=4)
    _, _, model = load(request, tmp_path)
    models.load_adapter(model, tmp_path / "checkpoint", CPU)
    assert go_on(model, None, 2, 1e-2, first=4) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("config", [{"target_modules": ["embed_tokens"]}, {"trainable_token_indices": [11, 18]}])
def test_a_job_trains_what_is_added_to_the_embeddings(here, config):
    here.custom |= {"method": "peft", "peft": {"config": {"peft_type": "LORA"} | config}}
    here.tuning |= {"max_steps": 2, "packing": True}
    assert here.train().step == 2


def test_adalora_shifts_rank_while_it_trains(tiny, tmp_path):
    config = {"peft_type": "ADALORA", "init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 1}
    trained = train(document(tiny("llama"), method="peft", peft={"config": config}), tmp_path, steps=6)
    ranks = [sum(layer) for layer in trained.model.peft_config["default"].rank_pattern.values()]
    assert sum(ranks) == 2 * len(ranks), "the budget is what was asked for"


def test_prompts_can_not_be_merged_and_that_is_said_before_anything_is_loaded(tiny, tmp_path):
    config = {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}
    with pytest.raises(ConfigError, match=r"extra_parameters\.merge: PROMPT_TUNING can't be added"):
        load(document(tmp_path / "nowhere", method="peft", peft={"config": config}, merge=True), tmp_path)


def test_a_layer_without_a_merge_of_its_own_is_found_before_training(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"extra_parameters\.merge: LILY"):
        load(document(tiny("llama"), method="peft", peft={"config": {"peft_type": "LILY"}}, merge=True), tmp_path)
