"""The document's words become settings, or are refused by their path."""

import importlib.util

import pytest

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text import settings as settings_module
from trainyard.trainer.text.settings import read_settings


def batch(processes=1, **tuning):
    settings = read_settings({"tuning_parameters": tuning}, processes)
    return settings.batch_size, settings.micro_batch_size, settings.accumulation


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({"micro_batch_size": 2}, (8, 2, 4)),
        ({"batch_size": 8, "gradient_accumulation_steps": 4}, (8, 2, 4)),
        ({"batch_size": 8, "micro_batch_size": 3, "gradient_accumulation_steps": 5}, (15, 3, 5)),
    ],
)
def test_the_batch_is_micro_batch_times_accumulation(tuning, expected):
    assert batch(**tuning) == expected


def test_the_batch_is_shared_by_the_processes():
    assert batch(2, batch_size=16, micro_batch_size=4) == (16, 4, 2)
    assert batch(2, micro_batch_size=2, gradient_accumulation_steps=3) == (12, 2, 3)
    with pytest.raises(ConfigError, match=r"batch_size: 9 must be a multiple of the 2 processes"):
        batch(2, batch_size=9)


def test_a_micro_batch_that_is_not_given_is_left_to_be_chosen():
    settings = read_settings({"tuning_parameters": {"batch_size": 6}})
    assert settings.micro_batch_size is None
    cut = settings.cut(4)
    assert (cut.micro_batch_size, cut.accumulation, cut.batch_size) == (4, 2, 6)
    assert cut.plain()["gradient_accumulation_steps"] == 2
    assert settings.cut(99).micro_batch_size == 6


@pytest.mark.parametrize("tuning", [{"micro_batch_size": 3}, {"gradient_accumulation_steps": 16}])
def test_what_does_not_divide_the_batch_is_refused(tuning):
    with pytest.raises(ConfigError, match="must divide batch_size, which is 8"):
        batch(**tuning)


@pytest.mark.parametrize(("method", "rate"), [("full", 5e-5), ("scratch", 5e-5), ("lora", 2e-4), ("qlora", 2e-4)])
def test_the_learning_rate_follows_the_method(method, rate):
    assert read_settings({"customization": {"method": method}}).learning_rate == rate


def test_null_is_absent():
    assert read_settings({"customization": {"rank": None}, "tuning_parameters": {"seed": None}}).seed == 42


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("customization", {"method": "osmosis"}),
        ("customization", {"precision": "fp8"}),
        ("tuning_parameters", {"optimizer": "sgd"}),
        ("tuning_parameters", {"lr_scheduler": "spiral"}),
        ("extra_parameters", {"on_bad_row": "shrug"}),
    ],
)
def test_a_word_that_is_not_known_is_refused_with_those_that_are(part, values):
    ((name, value),) = values.items()
    with pytest.raises(ConfigError, match=rf"{part}\.{name}: '{value}' is not one of \w+, "):
        read_settings({part: values})


def test_everything_that_does_not_go_together_is_told_at_once():
    tuning = {"early_stopping_patience": 3, "packing": True, "objective": "dpo", "lr_scheduler": "spiral"}
    with pytest.raises(ConfigError) as raised:
        read_settings({"tuning_parameters": tuning})
    told = str(raised.value)
    assert "tuning_parameters.early_stopping_patience: it waits for a better held-out loss; give eval_ratio" in told
    assert "tuning_parameters.packing: rows of objective 'dpo' can't be packed" in told
    assert "tuning_parameters.lr_scheduler: 'spiral'" in told
    assert read_settings({"tuning_parameters": {"early_stopping_patience": 3, "eval_ratio": 0.1}})


def test_an_optimizer_of_8_bits_needs_its_library(monkeypatch):
    wanted = {"tuning_parameters": {"optimizer": "paged_adamw_8bit"}}
    if importlib.util.find_spec("bitsandbytes"):
        assert read_settings(wanted).optimizer == "paged_adamw_8bit"
    monkeypatch.setattr(settings_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes; install trainyard\[quant\]"):
        read_settings(wanted)
