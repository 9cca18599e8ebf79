"""From a `/train` document to options and data: what its own fields say, and what wins."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.asked import Asked
from schemas.diffusion.lycoris import USUAL, LycorisFile
from schemas.diffusion.request import Job, read_job


def document(**extra: Any) -> dict[str, Any]:
    return {
        "base_model": {"provider": "custom", "model_name": "owner/name"},
        "datasets": [{"source": "/data/pictures", "format": "imagefolder"}],
        "extra_parameters": {"model_family": "flux", **extra},
    }


def read(given: dict[str, Any], processes: int = 1) -> Job:
    job, errors = read_job(given, processes, Asked(given).__contains__)
    assert job is not None, errors
    return job


def errors(given: dict[str, Any], processes: int = 1) -> dict[str, str]:
    job, found = read_job(given, processes, Asked(given).__contains__)
    assert job is None
    return {error.path: error.message for error in found}


@pytest.mark.parametrize(
    ("part", "name", "value", "options"),
    [
        ("customization", "method", "full", {"model_type": "full"}),
        ("customization", "rank", 4, {"lora_rank": 4, "lora_alpha": 32}),
        ("customization", "lora_alpha", 8, {"lora_alpha": 8}),
        ("customization", "lora_dropout", 0.5, {"lora_dropout": 0.5}),
        ("customization", "target_modules", ["to_q"], {"peft_lora_target_modules": ("to_q",)}),
        ("customization", "precision", "fp32", {"mixed_precision": "no", "optimizer": "torch-adamw"}),
        ("customization", "precision", "fp16", {"mixed_precision": "fp16"}),
        ("customization", "precision", "int8", {"mixed_precision": "bf16", "base_model_precision": "int8-quanto"}),
        ("base_model", "revision", "v2", {"revision": "v2"}),
        ("tuning_parameters", "learning_rate", 0.5, {"learning_rate": 0.5}),
        ("tuning_parameters", "lr_scheduler", "cosine", {"lr_scheduler": "cosine"}),
        ("tuning_parameters", "optimizer", "adamw", {"optimizer": "torch-adamw"}),
        ("tuning_parameters", "optimizer", "adamw_8bit", {"optimizer": "bnb-adamw8bit"}),
        ("tuning_parameters", "weight_decay", 0.2, {"adam_weight_decay": 0.2}),
        ("tuning_parameters", "max_grad_norm", 0.3, {"max_grad_norm": 0.3, "grad_clip_method": "norm"}),
        ("tuning_parameters", "warmup_steps", 9, {"lr_warmup_steps": 9}),
        ("tuning_parameters", "warmup_ratio", 0.1, {"lr_warmup_ratio": 0.1}),
        ("tuning_parameters", "gradient_checkpointing", False, {"gradient_checkpointing": False}),
        ("tuning_parameters", "max_sequence_length", 77, {"tokenizer_max_length": 77}),
        ("tuning_parameters", "seed", 3, {"seed": 3}),
        ("tuning_parameters", "logging_steps", 2, {"logging_steps": 2}),
        ("tuning_parameters", "save_steps", 20, {"checkpoint_step_interval": 20}),
        ("tuning_parameters", "save_total_limit", 2, {"checkpoints_total_limit": 2}),
        ("tuning_parameters", "eval_steps", 30, {"validation_step_interval": 30}),
        ("tuning_parameters", "max_steps", 50, {"max_train_steps": 50, "num_train_epochs": 0}),
        ("tuning_parameters", "num_epochs", 0.5, {"max_train_steps": 0, "num_train_epochs": 0.5}),
        ("tuning_parameters", "batch_size", 6, {"train_batch_size": 1, "gradient_accumulation_steps": 6}),
        ("tuning_parameters", "micro_batch_size", 1, {"train_batch_size": 1, "gradient_accumulation_steps": 8}),
        ("tuning_parameters", "gradient_accumulation_steps", 4, {"train_batch_size": 2}),
        ("extra_parameters", "on_bad_row", "skip", {"on_bad_row": "skip"}),
    ],
)
def test_a_field_of_the_document_is_read_as_its_option(
    part: str, name: str, value: Any, options: dict[str, Any]
) -> None:
    given = document()
    given[part] = {**given.get(part, {}), name: value}
    found = read(given).options
    assert {option: getattr(found, option) for option in options} == options


def test_what_nobody_says_is_as_the_train_contract_says_and_left_to_no_one() -> None:
    found = read(document()).options
    assert (found.model_type, found.lora_rank, found.lora_alpha, found.lora_dropout) == ("lora", 16, 32, 0.05)
    assert (found.learning_rate, found.optimizer, found.lr_scheduler) == (2e-4, "adamw_bf16", "linear")
    assert (found.train_batch_size, found.gradient_accumulation_steps, found.seed) == (1, 8, 42)
    assert (found.num_train_epochs, found.max_train_steps, found.checkpoint_step_interval) == (3, 0, 0)
    assert found.pretrained_model_name_or_path == "owner/name" and found.lycoris_config is None


def test_an_option_under_its_own_name_wins_over_what_the_document_means_by_default() -> None:
    found = read(document(lora_rank=8, train_batch_size=1, max_train_steps=7, max_grad_norm=3)).options
    assert (found.lora_rank, found.lora_alpha) == (8, 8)
    assert (found.train_batch_size, found.gradient_accumulation_steps) == (1, 1)
    assert (found.max_train_steps, found.num_train_epochs) == (7, 0)
    assert (found.max_grad_norm, found.grad_clip_method) == (3, "value")
    assert read(document(num_train_epochs=2)).options.max_train_steps == 0


def test_what_is_asked_by_both_names_must_agree() -> None:
    given = document(learning_rate=1e-3) | {"tuning_parameters": {"learning_rate": 1e-4}}
    at = "extra_parameters.learning_rate"
    assert errors(given) == {at: "differs from tuning_parameters.learning_rate: give one of them, or the same value"}
    given["extra_parameters"]["learning_rate"] = "1e-4"
    assert read(given).options.learning_rate == 1e-4
    given = document(train_batch_size=3) | {"tuning_parameters": {"batch_size": 8}}
    assert "3 × 1 × 2 processes is 6, and" in errors(given, 2)["extra_parameters.train_batch_size"]


def test_a_batch_is_shared_by_the_processes() -> None:
    given = document() | {"tuning_parameters": {"batch_size": 8}}
    found = read(given, processes=4).options
    assert (found.train_batch_size, found.gradient_accumulation_steps, found.num_processes) == (1, 2, 4)


def test_an_error_is_told_at_the_field_that_was_given() -> None:
    given = document() | {"customization": {"rank": 1000}, "tuning_parameters": {"optimizer": "lbfgs"}}
    assert errors(given).keys() == {"customization.rank", "tuning_parameters.optimizer"}


def test_the_family_is_the_one_that_a_local_model_names(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxKontextPipeline"}))
    given = document(model_family=None)
    assert "is required where no local model_index.json" in errors(given)["extra_parameters.model_family"]
    given["base_model"]["model_name"] = str(tmp_path)
    found = read(given).options
    assert (found.model_family, found.model_flavour) == ("flux", "kontext")
    given["extra_parameters"]["model_family"] = "sdxl"
    assert "is of 'flux'" in errors(given)["extra_parameters.model_family"]


def test_a_lycoris_file_is_read_and_there_is_one_for_who_gives_none(tmp_path: Path) -> None:
    assert read(document(lora_type="lycoris")).options.lycoris_config == USUAL
    path = tmp_path / "lycoris.json"
    path.write_text('{"algo": "loha", "linear_dim": 4}')
    found = read(document(lora_type="lycoris", lycoris_config=str(path))).options.lycoris_config
    assert found == LycorisFile(algo="loha", linear_dim=4)
    path.write_text('{"algo": "x"}')
    at = "extra_parameters.lycoris_config"
    found = errors(document(lora_type="lycoris", lycoris_config=str(path)))
    assert "must be one of 'lokr'" in found[f"{at}.algo"]
    path.unlink()
    assert "can't be read" in errors(document(lora_type="lycoris", lycoris_config=str(path)))[at]


def test_a_dataloaders_file_is_read_with_paths_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "loader.json"
    path.write_text(json.dumps([{"id": "a", "instance_data_dir": "pictures"}]))
    job = read(document(data_backend_config=str(path)))
    assert job.entries == job.options.data_backend_config
    [entry] = job.entries
    assert entry.instance_data_dir == str(tmp_path / "pictures")
    assert entry.at == "extra_parameters.data_backend_config[0]"
    path.write_text(json.dumps([{"id": "a", "instance_data_dir": "p", "repeats": "x"}]))
    found = errors(document(data_backend_config=str(path)))
    assert found == {"extra_parameters.data_backend_config[0].repeats": "must be an integer ≥ 0, got a string"}
    path.write_text("[")
    assert "is not JSON" in errors(document(data_backend_config=str(path)))["extra_parameters.data_backend_config"]


def test_each_data_set_of_the_document_is_an_entry_whose_id_stays() -> None:
    given = document()
    given["datasets"].append({"source": "/data/more", "format": "imagefolder", "weight": 3})
    first, second = read(given).entries
    assert (first.at, first.instance_data_dir, first.repeats) == ("datasets[0]", "/data/pictures", 0)
    assert (second.at, second.repeats) == ("datasets[1]", 2)
    assert first.id.startswith("pictures-") and read(given).entries[0].id == first.id
