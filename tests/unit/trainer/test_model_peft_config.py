"""The document's words about adapters become configurations of peft, or errors with their path."""

import pytest
from peft import PeftType

from tests.methods import document
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text import model as models
from trainyard.trainer.text.settings import read_settings


def config(method="peft", steps=None, given=None, **custom):
    peft = {} if given is None else {"peft": {"config": given}}
    return models.make_config(read_settings(document("nowhere", method=method, **peft, **custom)), steps)


def test_lora_takes_the_flat_fields_and_all_linear_layers():
    made = config("lora", rank=7, lora_alpha=9, lora_dropout=0.25)
    assert made.peft_type == PeftType.LORA and made.task_type == "CAUSAL_LM"
    assert (made.r, made.lora_alpha, made.lora_dropout, made.target_modules) == (7, 9, 0.25, "all-linear")


def test_what_the_config_says_wins_and_the_rest_comes_from_the_flat_fields():
    made = config("lora", given={"r": 3, "use_rslora": True}, rank=7, lora_alpha=9, target_modules=["q_proj"])
    assert (made.r, made.lora_alpha, made.use_rslora, made.target_modules) == (3, 9, True, {"q_proj"})


def test_a_config_that_is_not_to_be_used_is_not():
    peft = {"use": False, "config": {"r": 3}}
    assert models.make_config(read_settings(document("nowhere", method="lora", rank=7, peft=peft))).r == 7


def test_types_that_are_no_lora_keep_their_own_defaults():
    assert config(given={"peft_type": "VERA"}, rank=7).r == 256
    assert config(given={"peft_type": "IA3"}).target_modules is None, "peft knows them for each architecture"
    assert config(given={"peft_type": "OFT", "oft_block_size": 8}).target_modules == "all-linear"


def test_adalora_plans_by_the_steps_of_the_run():
    made = config(given={"peft_type": "ADALORA"}, steps=40, rank=8)
    assert (made.total_step, made.target_r, made.init_r) == (40, 8, 12)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"peft_type": "LORRA"}, r"peft_type: 'LORRA' is none of this peft's; LORA is near to it"),
        ({"peft_type": 3}, r"peft_type: 3 is none of this peft's"),
        ({"lora_aplha": 3}, r"lora_aplha: LORA has no such key; lora_alpha is near to it"),
        ({"peft_type": "IA3", "r": 3}, r"\.r: IA3 has no such key"),
        ({"r": "8"}, r"\.r: must be a whole number, got '8'"),
        ({"r": True}, r"\.r: must be a whole number, got True"),
        ({"use_dora": 1}, r"use_dora: must be true or false, got 1"),
        ({"lora_dropout": "no"}, r"lora_dropout: must be a number, got 'no'"),
        ({"target_modules": 5}, r"target_modules: must be a string or a list of strings, got 5"),
        ({"target_modules": [5]}, r"target_modules: must be a string or a list of strings, got \[5\]"),
        ({"bias": "some"}, r"bias: must be one of 'none', 'all', 'lora_only', got 'some'"),
        ({"rank_pattern": []}, r"rank_pattern: must be an object, got \[\]"),
        ({"peft_type": "PREFIX_TUNING"}, r"num_virtual_tokens: PREFIX_TUNING needs it"),
        ({"task_type": "SEQ_CLS"}, r"task_type: must be CAUSAL_LM, got 'SEQ_CLS'"),
        ({"inference_mode": True}, r"inference_mode: must be false"),
        ({"init_lora_weights": "eva"}, r"init_lora_weights: 'eva' looks at data"),
        ({"init_lora_weights": "pissa", "use_dora": True}, r"'pissa' .* does not go together with use_dora"),
        ({"peft_type": "POLY"}, r"POLY can't be trained here: it wants the number of a task with every row"),
        ({"peft_type": "OFT", "r": 8, "oft_block_size": 8}, r"peft refuses it for OFT: "),
    ],
)
def test_what_is_wrong_is_said_with_its_path(given, said):
    with pytest.raises(ConfigError, match=r"^customization\.peft\.config.*" + said):
        config(given=given)


def test_all_that_is_wrong_is_said_at_once():
    with pytest.raises(ConfigError, match=r"config\.r: .*config\.lora_alfa: "):
        config(given={"r": "8", "lora_alfa": 1})


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_lora_is_not_another_type(method):
    with pytest.raises(ConfigError, match=rf"method '{method}' trains LORA, got 'IA3'; method: peft would run"):
        config(method, given={"peft_type": "IA3"})


def test_prefix_tuning_and_gradient_checkpointing_do_not_go_together():
    given = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}
    with pytest.raises(ConfigError, match=r"tuning_parameters\.gradient_checkpointing: PREFIX_TUNING"):
        config(given=given, tuning={"gradient_checkpointing": True})
