"""What `local` refuses: every lack at once, each with what would run."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.local.limits import find_errors
from backends.local.machine import Machine
from schemas.converter import structure
from schemas.train import TrainRequest
from tests.unit.backends.local.documents import GPUS, SMALL, document

GUIDE = Path(__file__).parents[3] / "data" / "usage_guide.json"


def found(given: dict[str, Any], machine: Machine = SMALL) -> dict[str, str]:
    read = structure(given, TrainRequest)
    assert read.value is not None, read.errors
    errors = find_errors(read.value, machine)
    assert len({e.path for e in errors}) == len(errors)
    return {e.path: e.message for e in errors}


def test_the_usage_guides_document_is_refused_for_exactly_what_is_lacking() -> None:
    errors = found(json.loads(GUIDE.read_text()))
    assert sorted(errors) == [
        "artifacts.log_uri",
        "artifacts.output_uri",
        "customization.trainable_layers",
        "datasets[0].auth",
        "datasets[0].source",
        "resources.cpus",
        "resources.gpu_type",
        "resources.gpus",
        "resources.memory_gb",
    ]
    assert errors["resources.gpus"] == "4 asked, this machine has none; gpus: 0 would run, on the CPU"
    assert errors["resources.cpus"] == "16 asked, this machine has 2; cpus: 2 would run"
    assert errors["resources.memory_gb"] == "128 asked, this machine has 23 GiB; memory_gb: 23 would run"
    assert errors["datasets[0].source"] == ("s3:// is not in this version of local; a local path would run")


def test_a_document_that_asks_for_little_is_taken_and_a_default_never_refuses(tmp_path: Path) -> None:
    assert found(document(tmp_path)) == {}
    assert found(document(tmp_path, resources={"gpus": 0, "cpus": 2, "memory_gb": 23.4})) == {}


PATCHES: list[tuple[dict[str, Any], str, str]] = [
    ({"customization": {"method": "qlora"}}, "customization.method", "lora or full would run"),
    ({"customization": {"method": "adapter"}}, "customization.method", "'adapter' is not in this version"),
    ({"customization": {"precision": "int8"}}, "customization.precision", "bf16 or fp32 would run"),
    ({"customization": {"trainable_layers": ["h.0"]}}, "customization.trainable_layers", "leave it out"),
    ({"customization": {"peft": {"config": {"peft_type": "IA3"}}}}, "customization.peft.config.peft_type", "'LORA'"),
    ({"customization": {"peft": {"config": {"bias": "all"}}}}, "customization.peft.config.bias", "not in this version"),
    (
        {"customization": {"method": "full", "peft": {"use": True}}},
        "customization.peft.use",
        "method 'full' trains no adapter",
    ),
    ({"base_model": {"weights_url": "https://x.org/w"}}, "base_model.weights_url", "give their folder in"),
    ({"base_model": {"model_name": "s3://bucket/model"}}, "base_model.model_name", "s3:// is not in this version"),
    ({"base_model": {"model_name": "a/b/c"}}, "base_model.model_name", "neither a hub id nor a path"),
    ({"base_model": {"model_name": "/no/such"}}, "base_model.model_name", "there is no folder /no/such"),
    ({"resources": {"max_cost": 3}}, "resources.max_cost", "needs a price list"),
    ({"artifacts": {"auth": {"token": "t0"}}}, "artifacts.auth", "leave it out"),
    ({"artifacts": {"output_uri": "gs://b/x"}}, "artifacts.output_uri", "a local folder would run"),
    ({"artifacts": {"log_uri": "/dev/null/x"}}, "artifacts.log_uri", "/dev/null is not a folder"),
    ({"tuning_parameters": {"optimizer": "adafactor"}}, "tuning_parameters.optimizer", "adamw would run"),
    ({"tuning_parameters": {"packing": True}}, "tuning_parameters.packing", "packing: false would run"),
    ({"tuning_parameters": {"objective": "dpo"}}, "tuning_parameters.objective", "sft would run"),
    ({"tuning_parameters": {"eval_steps": 5}}, "tuning_parameters.eval_steps", "eval_ratio: 0.1"),
    ({"tuning_parameters": {"early_stopping_patience": 2}}, "tuning_parameters.early_stopping_patience", "leave it"),
    (
        {"tuning_parameters": {"batch_size": 8, "micro_batch_size": 3}},
        "tuning_parameters.micro_batch_size",
        "batch_size 8 is not a multiple of 3; micro_batch_size: 2 would run",
    ),
    (
        {"tuning_parameters": {"batch_size": 2**53 - 111, "gradient_accumulation_steps": 2**52}},
        "tuning_parameters.gradient_accumulation_steps",
        "would run",
    ),
    (
        {"tuning_parameters": {"batch_size": 8, "micro_batch_size": 2, "gradient_accumulation_steps": 2}},
        "tuning_parameters.batch_size",
        "8 is not micro_batch_size 2 × gradient_accumulation_steps 2; batch_size: 4 would run",
    ),
    ({"extra_parameters": {"engine": "diffusion"}}, "extra_parameters.engine", "text would run"),
    ({"extra_parameters": {"max_retries": 1}}, "extra_parameters.max_retries", "max_retries: 0 would run"),
    ({"extra_parameters": {"stall_minutes": 5}}, "extra_parameters.stall_minutes", "not in this version"),
    ({"extra_parameters": {"on_bad_row": "skip"}}, "extra_parameters.on_bad_row", "not in this version"),
    ({"extra_parameters": {"merge": True}}, "extra_parameters.merge", "not in this version"),
    ({"extra_parameters": {"strategy": "fsdp"}}, "extra_parameters.strategy", "not in this version"),
]


@pytest.mark.parametrize(("patch", "path", "words"), PATCHES, ids=[f"{path}={words}" for _, path, words in PATCHES])
def test_what_this_version_can_not_do_is_refused_with_what_would_run(
    tmp_path: Path, patch: dict[str, Any], path: str, words: str
) -> None:
    errors = found(document(tmp_path, **patch))
    assert list(errors) == [path]
    assert words in errors[path]


def test_without_the_trainers_packages_nothing_is_taken(tmp_path: Path) -> None:
    errors = found(document(tmp_path), Machine(cpus=2, memory_gib=8, lacking=("torch", "peft")))
    expected = "local can't train here, torch, peft is not installed: pip install 'trainyard[train]' would do"
    assert errors == {"backend": expected}


def test_a_command_of_the_callers_own_is_refused(tmp_path: Path) -> None:
    errors = found(document(tmp_path, extra_parameters={"engine": "command", "command": ["true"]}))
    assert list(errors) == ["extra_parameters.engine", "extra_parameters.command"]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        ({"gpus": 1, "gpu_type": "a100"}, {}),
        ({"gpu_type": "H100"}, {}),
        ({"gpus": 0}, {}),
        ({"gpus": 0, "gpu_type": "L4"}, {}),
        ({"gpus": 2}, {"resources.gpus": "2 asked: more than one GPU for a job is not in this version"}),
        ({"gpus": 3}, {"resources.gpus": "3 asked, this machine has 2; gpus: 1 would run"}),
        ({"gpu_type": "L4"}, {"resources.gpu_type": "no GPU of this machine is a 'L4'; it has NVIDIA A100"}),
    ],
)
def test_gpus_are_matched_by_number_and_name(
    tmp_path: Path, resources: dict[str, Any], expected: dict[str, str]
) -> None:
    errors = found(document(tmp_path, resources=resources), GPUS)
    assert list(errors) == list(expected)
    assert all(words in errors[path] for path, words in expected.items())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_every_precision_but_int8_runs_with_and_without_a_gpu(tmp_path: Path, precision: str) -> None:
    half = {"precision": precision}
    assert found(document(tmp_path, customization=half), GPUS) == {}
    assert found(document(tmp_path, customization=half, resources={"gpus": 0}), GPUS) == {}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"base_model": {"provider": "custom", "model_name": "/" + "m" * 5000}}, "base_model.model_name"),
        ({"datasets": [{"source": "/" + "d" * 5000, "format": "jsonl"}]}, "datasets[0].source"),
        ({"artifacts": {"log_uri": "/" + "l" * 5000, "output_uri": "/tmp"}}, "artifacts.log_uri"),
    ],
)
def test_a_name_that_no_file_system_takes_is_an_error_of_its_field(tmp_path: Path, patch, path: str) -> None:
    errors = found(document(tmp_path) | patch)
    assert "File name too long" in errors[path]
    assert len(errors[path]) < 400
