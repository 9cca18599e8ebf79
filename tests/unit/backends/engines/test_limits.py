"""What `local` refuses: every lack at once, each with what would run."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.backends.engines.documents import document, found

GUIDE = Path(__file__).parents[3] / "data" / "usage_guide.json"


def test_the_usage_guides_document_is_refused_for_exactly_what_is_lacking() -> None:
    errors = found(json.loads(GUIDE.read_text()))
    assert sorted(errors) == ["resources.cpus", "resources.gpu_type", "resources.gpus", "resources.memory_gb"]
    assert errors["resources.gpus"] == "4 asked, this machine has none; gpus: 0 would run, on the CPU"
    assert errors["resources.cpus"] == "16 asked, this machine has 2; cpus: 2 would run"
    assert errors["resources.memory_gb"] == "128 asked, this machine has 23 GiB; memory_gb: 23 would run"


def test_a_document_that_asks_for_little_is_taken_and_a_default_never_refuses(tmp_path: Path) -> None:
    assert found(document(tmp_path)) == {}
    assert found(document(tmp_path, resources={"gpus": 0, "cpus": 2, "memory_gb": 23.4})) == {}


GOOD: list[dict[str, Any]] = [
    *({"customization": {"method": method}} for method in ("full", "qlora", "scratch")),
    {"customization": {"method": "peft", "peft": {"config": {"peft_type": "IA3", "task_type": "CAUSAL_LM"}}}},
    {"customization": {"precision": "int8"}},
    {"customization": {"trainable_layers": ["model.embed_tokens"]}},
    *({"tuning_parameters": {"optimizer": name}} for name in ("adafactor", "adamw_8bit", "paged_adamw_8bit")),
    {"tuning_parameters": {"packing": True, "eval_ratio": 0.1, "eval_steps": 5, "early_stopping_patience": 2}},
    {"tuning_parameters": {"objective": "dpo"}, "customization": {"precision": "bf16"}},
    {"tuning_parameters": {"objective": "dpo"}, "extra_parameters": {"processes": 2}},
    {"datasets": [{"source": "gs://b/x", "format": "jsonl", "split": "validation"}]},
    *(
        {"datasets": [{"source": "a/b", "format": "hf", "split": split}]}
        for split in ("train", "en/train", "train[100:]")
    ),
    {"extra_parameters": {"on_bad_row": "skip", "merge": True}},
    {"extra_parameters": {"strategy": "fsdp", "processes": 2}},
    *({"base_model": {"model_name": uri}} for uri in ("hf://owner/name", "https://x.org/model.tar.gz", "gs://b/m")),
    {"base_model": {"model_name": "s3://bucket/model", "weights_url": "https://x.org/w.safetensors"}},
    {"datasets": [{"source": "owner/rows", "format": "hf", "split": "train[:10]", "streaming": True, "weight": 2}]},
    {"datasets": [{"source": "hf://datasets/owner/rows/a.csv", "format": "csv", "auth": {"token": "hf_x"}}]},
    *({"datasets": [{"source": f"{kind}://b/x.parquet", "format": "parquet"}]} for kind in ("s3", "gs", "az", "https")),
    {"artifacts": {"output_uri": "az://b/x", "log_uri": "gs://b/l", "auth": {"token": "t0"}}},
]


@pytest.mark.parametrize("patch", GOOD, ids=map(str, GOOD))
def test_what_the_text_engine_does_is_taken(tmp_path: Path, patch: dict[str, Any]) -> None:
    assert found(document(tmp_path, **patch)) == {}


CPU = {"resources": {"gpus": 0}}
PATCHES: list[tuple[dict[str, Any], str, str]] = [
    ({"customization": {"method": "full", "precision": "int8"}}, "customization.precision", "'full' trains it; bf16"),
    ({"customization": {"method": "qlora", "precision": "int8"}}, "customization.precision", "the same base; bf16"),
    ({"customization": {"method": "peft", "peft": {"use": False}}}, "customization.peft.use", "method 'peft' uses it"),
    (
        {"customization": {"peft": {"config": {"peft_type": "IA3"}}}},
        "customization.peft.config.peft_type",
        "method 'lora' trains LORA, got 'IA3'; method: peft would run",
    ),
    (
        {"customization": {"method": "peft", "peft": {"config": {"peft_type": "ia3"}}}},
        "customization.peft.config.peft_type",
        "such as LORA, IA3 or PREFIX_TUNING, got 'ia3'",
    ),
    (
        {"customization": {"peft": {"config": {"task_type": "SEQ_CLS"}}}},
        "customization.peft.config.task_type",
        "must be CAUSAL_LM",
    ),
    (
        {"customization": {"method": "full", "peft": {"use": True}}},
        "customization.peft.use",
        "method 'full' trains no adapter",
    ),
    ({"base_model": {"model_name": "a/b/c"}}, "base_model.model_name", "neither a hub id nor a path"),
    ({"base_model": {"model_name": "/no/such"}}, "base_model.model_name", "there is no folder /no/such"),
    ({"resources": {"max_cost": 3}}, "resources.max_cost", "needs a price list"),
    ({"artifacts": {"output_uri": "hf://b/x"}}, "artifacts.output_uri", "s3://, gs://, az:// or a local folder"),
    ({"artifacts": {"log_uri": "/dev/null/x"}}, "artifacts.log_uri", "/dev/null is not a folder"),
    ({"datasets": [{"source": "/no/x", "format": "parquet"}]}, "datasets[0].source", "give a Parquet file that exists"),
    ({"datasets": [{"source": "s3://b/x", "format": "imagefolder"}]}, "datasets[0].format", "data of images"),
    ({"datasets": [{"source": "https://b/x", "format": "hf"}]}, "datasets[0].source", "names one file"),
    (
        {"datasets": [{"source": "gs://b/x", "format": "csv", "auth": {"role_arn": "arn:x"}}]},
        "datasets[0].auth.role_arn",
        "is for s3://, and this is gs://",
    ),
    ({"tuning_parameters": {"packing": True, "objective": "dpo"}}, "tuning_parameters.packing", "packing: false"),
    ({"tuning_parameters": {"objective": "kto"}}, "tuning_parameters.objective", "sft or dpo would run"),
    ({"tuning_parameters": {"eval_steps": 5}}, "tuning_parameters.eval_steps", "eval_ratio: 0.1"),
    ({"tuning_parameters": {"early_stopping_patience": 2}}, "tuning_parameters.early_stopping_patience", "eval_ratio"),
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
    (
        {"tuning_parameters": {"batch_size": 7}, "extra_parameters": {"processes": 2}},
        "tuning_parameters.batch_size",
        "7 is not a multiple of the 2 processes; batch_size: 6 would run",
    ),
    (
        {"tuning_parameters": {"batch_size": 12, "micro_batch_size": 4}, "extra_parameters": {"processes": 2}},
        "tuning_parameters.micro_batch_size",
        "12 is not a multiple of 4 × 2 processes; micro_batch_size: 3 would run",
    ),
    ({"extra_parameters": {"processes": 3}}, "extra_parameters.processes", "3 asked for 2 CPUs"),
    ({"extra_parameters": {"strategy": "zero"}}, "extra_parameters.strategy", "auto, ddp or fsdp would run"),
    ({"extra_parameters": {"strategy": "fsdp"}}, "extra_parameters.strategy", "extra_parameters.processes: 2"),
    (
        {"extra_parameters": {"strategy": "fsdp", "processes": 2}, "customization": {"method": "qlora"}},
        "extra_parameters.strategy",
        "does not shard a quantised base; strategy: ddp would run",
    ),
    (
        {
            "extra_parameters": {"strategy": "fsdp", "processes": 2},
            "customization": {"method": "peft", "peft": {"config": {"peft_type": "IA3"}}},
        },
        "extra_parameters.strategy",
        "shards whole models and LoRA, not IA3; strategy: ddp would run",
    ),
    *(
        ({"datasets": [{"source": "gs://b/x", "format": form, "split": split}]}, "datasets[0].split", "only format hf")
        for form, split in [
            *(("csv", s) for s in ("train[:50%]", "train+test")),
            *((f, "train[:9]") for f in ("jsonl", "parquet", "arrow", "nemo")),
        ]
    ),
    ({"datasets": [{"source": "a/b", "format": "hf", "split": "train[x"}]}, "datasets[0].split", "such as train or"),
    (
        {"datasets": [{"source": "a/b", "format": "hf", "split": "train[:5%]", "streaming": True}]},
        "datasets[0].split",
        "give a number of rows",
    ),
    (
        {
            "extra_parameters": {"merge": True},
            "customization": {"method": "peft", "peft": {"config": {"peft_type": "PREFIX_TUNING"}}},
        },
        "extra_parameters.merge",
        "a PREFIX_TUNING adapter can't be added to the weights",
    ),
    (
        {"tuning_parameters": {"objective": "dpo"}, "customization": {"precision": "fp16"}, **CPU},
        "customization.precision",
        "needs a GPU; bf16 or fp32 would run",
    ),
]


@pytest.mark.parametrize(("patch", "path", "words"), PATCHES, ids=[f"{path}={words}" for _, path, words in PATCHES])
def test_what_can_not_be_done_is_refused_with_what_would_run(
    tmp_path: Path, patch: dict[str, Any], path: str, words: str
) -> None:
    errors = found(document(tmp_path, **patch))
    assert list(errors) == [path]
    assert words in errors[path]


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


@pytest.mark.parametrize(
    ("custom", "path"),
    [
        ({"rank": 8, "peft": {"config": {"r": 4}}}, "r"),
        ({"lora_alpha": 8, "peft": {"config": {"lora_alpha": 4}}}, "lora_alpha"),
        ({"lora_dropout": 0.1, "peft": {"config": {"lora_dropout": 0}}}, "lora_dropout"),
        ({"method": "peft", "rank": 8, "peft": {"config": {"peft_type": "LOKR", "r": 4}}}, "r"),
    ],
)
def test_one_number_asked_for_twice_must_be_the_same(tmp_path: Path, custom: dict[str, Any], path: str) -> None:
    (error,) = found(document(tmp_path, customization=custom)).items()
    assert error[0] == f"customization.peft.config.{path}" and "give one of the two" in error[1]


def test_one_number_asked_for_twice_alike_or_once_is_taken(tmp_path: Path) -> None:
    for custom in ({"rank": 4, "peft": {"config": {"r": 4}}}, {"peft": {"config": {"r": 4, "lora_alpha": 1}}}):
        assert found(document(tmp_path, customization=custom)) == {}


def test_an_adapter_that_is_gone_on_with_is_looked_at_for_what_can_be_sharded(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    for kind, refused in (("LORA", False), ("IA3", True)):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"peft_type": kind}))
        errors = found(
            document(
                tmp_path,
                base_model={"provider": "custom", "model_name": str(tmp_path / "adapter")},
                customization={"method": "adapter"},
                extra_parameters={"strategy": "fsdp", "processes": 2},
            )
        )
        assert list(errors) == ["extra_parameters.strategy"] * refused, errors
