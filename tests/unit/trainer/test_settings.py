"""The document's words become settings, or are refused by their path."""

import pytest

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text.settings import dataset_paths, read_settings


def batch(**tuning):
    settings = read_settings({"tuning_parameters": tuning})
    return settings.micro_batch_size, settings.accumulation


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({}, (8, 1)),
        ({"batch_size": 64}, (8, 8)),
        ({"batch_size": 7}, (7, 1)),
        ({"batch_size": 22}, (2, 11)),
        ({"batch_size": 8, "micro_batch_size": 2}, (2, 4)),
        ({"batch_size": 8, "gradient_accumulation_steps": 4}, (2, 4)),
        ({"batch_size": 8, "micro_batch_size": 3, "gradient_accumulation_steps": 5}, (3, 5)),
        ({"batch_size": 8, "micro_batch_size": 16}, (8, 1)),
    ],
)
def test_the_batch_is_micro_batch_times_accumulation(tuning, expected):
    assert batch(**tuning) == expected


@pytest.mark.parametrize("tuning", [{"micro_batch_size": 3}, {"gradient_accumulation_steps": 16}])
def test_what_does_not_divide_the_batch_is_refused(tuning):
    with pytest.raises(ConfigError, match="must divide batch_size, which is 8"):
        batch(**tuning)


def test_the_learning_rate_follows_the_method():
    assert read_settings({"customization": {"method": "full"}}).learning_rate == 5e-5
    assert read_settings({"customization": {"method": "lora"}}).learning_rate == 2e-4


def test_null_is_absent():
    assert read_settings({"customization": {"rank": None}, "tuning_parameters": {"seed": None}}).seed == 42


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("customization", {"method": "qlora"}),
        ("customization", {"precision": "int8"}),
        ("customization", {"trainable_layers": ["model.layers.0"]}),
        ("base_model", {"weights_url": "https://example.org/w"}),
        ("tuning_parameters", {"optimizer": "adafactor"}),
        ("tuning_parameters", {"packing": True}),
        ("tuning_parameters", {"objective": "dpo"}),
        ("tuning_parameters", {"early_stopping_patience": 3}),
        ("tuning_parameters", {"lr_scheduler": "spiral"}),
    ],
)
def test_what_is_not_in_this_version_is_refused_by_its_path(part, values):
    with pytest.raises(ConfigError, match=rf"{part}\.{next(iter(values))}.*not in this version"):
        read_settings({part: values})


def test_datasets_are_local_jsonl(tmp_path):
    good = [
        {"source": f"file://{tmp_path}/a%20b.jsonl", "format": "jsonl", "weight": 1},
        {"source": "/x", "format": "jsonl"},
    ]
    assert [str(p) for p in dataset_paths({"datasets": good})] == [f"{tmp_path}/a b.jsonl", "/x"]
    bad = [{"source": "s3://b/k", "format": "parquet", "weight": 2, "streaming": True, "split": "train"}]
    with pytest.raises(ConfigError) as raised:
        dataset_paths({"datasets": bad})
    assert all(f"datasets[0].{k}" in str(raised.value) for k in ("source", "format", "weight", "streaming", "split"))
    with pytest.raises(ConfigError, match="at least one"):
        dataset_paths({})
