"""One option in its many spellings: dashes, aliases, numbers and switches as text, other words for values."""

from typing import Any

import pytest

from schemas.converter import structure
from schemas.diffusion import Options
from schemas.diffusion.spelling import undashed


def read(**given: Any) -> Options:
    found = structure(given, Options)
    assert found.value is not None, found.errors
    return found.value


def errors(given: dict[str, Any]) -> dict[str, str]:
    return {e.path: e.message for e in structure(given, Options, prefix="extra_parameters").errors}


@pytest.mark.parametrize(
    ("name", "written", "meant"),
    [
        ("lora_rank", "8", 8),
        ("learning_rate", "1e-4", 1e-4),
        ("resolution", "0.5", 0.5),
        ("use_ema", "on", True),
        ("use_ema", "0", False),
        ("use_ema", 1, True),
        ("gradient_checkpointing", "False", False),
        ("validation_resolution", 1024, "1024"),
        ("aspect_bucket_alignment", "16", 16),
        ("model_family", "pixart", "pixart_sigma"),
        ("base_model_precision", "bf16", "no_change"),
        ("optimizer", "adamw", "torch-adamw"),
        ("lr_scheduler", "cosine_with_warmup", "cosine"),
        ("caption_strategy", "instance_prompt", "instanceprompt"),
        ("peft_lora_target_modules", "to_q, to_k", ("to_q", "to_k")),
        ("flow_custom_timesteps", "[1, 999.5]", (1, 999.5)),
        ("validation_negative_prompt", "", ""),
        ("cache_dir_vae", "", ""),
        ("lora_alpha", "None", None),
        ("validation_prompt", "", None),
        ("model_flavour", "null", None),
        ("report_to", "none", ()),
        ("report_to", "wandb", ("wandb",)),
        ("report_to", "tensorboard, wandb", ("tensorboard", "wandb")),
        ("report_to", ["tensorboard"], ("tensorboard",)),
        ("report_to", "all", ("tensorboard", "wandb")),
        ("timestep_bias_strategy", "none", "none"),
    ],
)
def test_a_value_is_read_in_the_options_own_type(name: str, written: Any, meant: Any) -> None:
    found = getattr(read(**{name: written}), name)
    assert found == meant and isinstance(found, type(meant))


def test_two_dashes_are_taken_away_and_the_plain_name_wins() -> None:
    assert read(**{"--lora_rank": 4}).lora_rank == 4
    assert read(**{"--lora_rank": 4, "lora_rank": 5}).lora_rank == 5


@pytest.mark.parametrize("name", ["---lora_rank", "----lora_rank", "------lora_rank", "--", "---"])
def test_more_than_two_dashes_make_no_option(name: str) -> None:
    given = undashed(undashed({name: 4}))
    found = structure(given, Options)
    assert found.value == Options() and [warning.path for warning in found.warnings] == [name]


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("checkpointing_steps", "checkpoint_step_interval"),
        ("validation_steps", "validation_step_interval"),
        ("save_total_limit", "checkpoints_total_limit"),
        ("processes", "num_processes"),
    ],
)
def test_an_alias_is_the_option_itself(alias: str, name: str) -> None:
    assert getattr(read(**{alias: "7"}), name) == 7
    assert getattr(read(**{f"--{alias}": 7}), name) == 7
    differ = errors({alias: 7, name: 8})
    assert differ == {
        f"extra_parameters.{alias}": f"differs from extra_parameters.{name}: give one of them, or the same value"
    }


def test_a_lycoris_file_may_stand_in_the_document_as_text_or_object_or_path() -> None:
    text, plain, path = (
        read(lycoris_config=c).lycoris_config for c in ('{"algo": "lokr"}', {"algo": "lokr"}, "x.json")
    )
    assert text == plain != path == "x.json"


def test_errors_of_all_options_come_at_once_each_with_its_path() -> None:
    found = errors(
        {"lora_rank": 257, "use_ema": "maybe", "train_batch_size": "many", "optimizer": "adamw_bf1", "lora_dropout": 2}
    )
    assert set(found) == {
        f"extra_parameters.{name}" for name in ("lora_rank", "use_ema", "train_batch_size", "optimizer", "lora_dropout")
    }
    assert "did you mean 'adamw_bf16'" in found["extra_parameters.optimizer"]
    assert found["extra_parameters.lora_rank"] == "must be an integer from 1 to 256, got 257"


@pytest.mark.parametrize("written", [[], "[]", ","])
def test_a_list_that_something_is_drawn_from_is_not_empty(written: Any) -> None:
    found = errors({"flow_custom_timesteps": written})
    assert found == {
        "extra_parameters.flow_custom_timesteps": "must be a list of numbers that is not empty, got a list"
    }


def test_an_unknown_option_gets_the_nearest_name() -> None:
    warned = structure({"lora_rnk": 3}, Options, prefix="extra_parameters").warnings
    assert [(w.path, "did you mean 'lora_rank'" in w.message) for w in warned] == [("extra_parameters.lora_rnk", True)]


@pytest.mark.parametrize("value", ["256", "1024x768", "512, 0.5", "64x64"])
def test_sizes_of_validation_pictures(value: str) -> None:
    assert read(validation_resolution=value).validation_resolution == value


@pytest.mark.parametrize("value", ["10x", "x", "8x8", "-4", "1e9", "nan"])
def test_sizes_that_are_none_are_refused(value: str) -> None:
    assert "such as 1024" in errors({"validation_resolution": value})["extra_parameters.validation_resolution"]
