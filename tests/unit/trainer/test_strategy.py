"""What several processes do with one model, and what is refused before torch is loaded."""

import pytest

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text.settings import read_settings
from trainyard.trainer.text.strategy import check_strategy, checked_settings, choose_strategy, of_adapter


def settings(processes=2, strategy=None, **tuning):
    custom = {name: tuning.pop(name) for name in ("method", "precision") if name in tuning}
    if "peft_config" in tuning:
        custom["peft"] = {"config": tuning.pop("peft_config")}
    extra = {"strategy": strategy} if strategy else {}
    request = {"customization": custom, "tuning_parameters": tuning, "extra_parameters": extra}
    return read_settings(request, processes)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"processes": 1}, "at least 2 processes, and the job has one"),
        ({"method": "qlora"}, "does not shard a quantised base; strategy: ddp would run"),
        ({"precision": "int8"}, "does not shard a quantised base"),
        ({"precision": "fp16"}, "precision: bf16 would run"),
        ({"objective": "dpo"}, "does not go with objective 'dpo'; strategy: ddp would run"),
        ({"method": "peft", "peft_config": {"peft_type": "IA3"}}, "shards whole models and LoRA, not IA3"),
        ({"optimizer": "adamw_8bit"}, "does not shard the state of adamw_8bit; optimizer: adamw would run"),
    ],
)
def test_what_can_not_be_sharded_is_refused_and_never_pretended(asked, words):
    with pytest.raises(ConfigError, match=f"extra_parameters.strategy: fsdp .*{words}"):
        check_strategy(settings(strategy="fsdp", **asked))
    assert choose_strategy(settings(**asked), fits=False) != "fsdp"
    check_strategy(settings(strategy="ddp", **asked))


def test_another_strategy_is_refused_with_those_that_exist():
    with pytest.raises(ConfigError, match="'zero' is not one of auto, ddp, fsdp"):
        check_strategy(settings(strategy="zero"))


def test_auto_shards_only_what_does_not_fit():
    assert choose_strategy(settings(), fits=True) == "ddp"
    assert choose_strategy(settings(), fits=False) == "fsdp"
    assert choose_strategy(settings(strategy="ddp"), fits=False) == "ddp"
    assert choose_strategy(settings(strategy="fsdp"), fits=True) == "fsdp"


def test_an_adapter_that_can_not_be_sharded_is_refused_once_it_is_known():
    asked = settings(strategy="fsdp", method="adapter")
    assert of_adapter(asked, "LORA") is asked and of_adapter(asked, None) is asked
    with pytest.raises(ConfigError, match=r"extra_parameters\.strategy: fsdp shards whole models and LoRA, not IA3"):
        of_adapter(asked, "IA3")
    assert choose_strategy(of_adapter(settings(method="adapter"), "IA3"), fits=False) == "ddp"


def test_a_strategy_is_told_together_with_all_else_that_is_wrong():
    with pytest.raises(ConfigError) as e:
        checked_settings({"tuning_parameters": {"batch_size": 7}, "extra_parameters": {"strategy": "zero"}}, 2)
    assert [problem.partition(": ")[0] for problem in e.value.problems] == [
        "tuning_parameters.batch_size",
        "extra_parameters.strategy",
    ]
