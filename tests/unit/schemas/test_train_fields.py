"""Each row of the table of contract train.md, 1: what it takes, what it refuses, its default."""

import copy
from typing import Any

import pytest

from schemas.converter import structure, unstructure
from schemas.train import TrainRequest
from schemas.train_terms import LIFECYCLE
from schemas.values import MASK, FieldWarning, Secret

URI = "a path, or a whole URI of s3, gs, az, https, hf, file"
HOOK = "an http or https URL with a host that is no cloud's metadata address"
JOB_ID = "1–128 characters of A-Za-z0-9._- without '..', not beginning with '.' or '-', and not 'validate'"

REFUSED: list[tuple[str, list[Any], str]] = [
    ("job_id", ["", "a..b", ".a", "-a", "validate", "a/b", "a b", "é", "x" * 129, "a\n", 7], JOB_ID),
    ("base_model.provider", ["openai", "HuggingFace", 1], "one of 'huggingface', 'meta', "),
    ("base_model.model_name", ["", "ftp://x/y", "s3://", [], "a\nb"], URI),
    ("base_model.revision", ["", 1], "a string that is not empty"),
    ("base_model.auth_token", ["", 1, {}], "a string that is not empty"),
    ("base_model.huggingface_token", ["", 1], "a string that is not empty"),
    ("base_model.weights_url", ["x", "ftp://h/x", 1], "a whole URL of http, s3, gs, az, https, hf, file"),
    ("customization.method", ["LORA", "dora"], "one of 'full', 'lora', 'qlora', 'peft', 'adapter', 'scratch'"),
    ("customization.rank", ["abc", 0, -1, 1.5, True, "8"], "an integer ≥ 1"),
    ("customization.target_modules", ["q_proj", {}], "a list"),
    ("customization.lora_alpha", [0, -1, "32", False], "a number > 0"),
    ("customization.lora_dropout", [-0.1, 1.1, "0"], "a number from 0 to 1"),
    ("customization.trainable_layers", ["x", 1], "a list"),
    ("customization.precision", ["int4", "float16"], "one of 'fp32', 'fp16', 'bf16', 'int8'"),
    ("customization.gradient_checkpointing", [1, "yes"], "true or false"),
    ("customization.qlora", [True, []], "an object"),
    ("customization.qlora.use_double_quant", [1], "true or false"),
    ("customization.qlora.bnb_4bit_compute_dtype", ["fp16"], "one of 'float16', 'bfloat16'"),
    ("customization.qlora.bnb_4bit_quant_type", ["int4"], "one of 'nf4', 'fp4'"),
    ("customization.peft", [1], "an object"),
    ("customization.peft.use", ["yes"], "true or false"),
    ("customization.peft.config", [[], "x"], "an object"),
    ("customization.lora", [[]], "an object"),
    ("customization.lora.rank", [0], "an integer ≥ 1"),
    ("customization.lora.alpha", [0], "a number > 0"),
    ("customization.lora.dropout", [2], "a number from 0 to 1"),
    ("customization.lora.target_modules", ["x"], "a list"),
    ("resources.gpus", [-1, 0.5, "1", True], "an integer ≥ 0"),
    ("resources.gpu_type", ["", 1], "a string that is not empty"),
    ("resources.cpus", [0], "an integer ≥ 1"),
    ("resources.memory_gb", [0.5, "64"], "a number ≥ 1"),
    ("resources.max_duration_minutes", [0, -1], "a number > 0"),
    ("resources.max_cost", [0], "a number > 0"),
    ("datasets", [[], {}, "x"], "a list that is not empty"),
    ("datasets[0]", [1, "x"], "an object with source, format"),
    ("datasets[0].source", ["", "ftp://h/x", "http://h/x", "s3:/b"], URI),
    ("datasets[0].format", ["json", "JSONL"], "one of 'jsonl', 'parquet', 'csv', 'hf', 'nemo', 'arrow', 'imagefolder'"),
    ("datasets[0].split", ["", 1], "a string that is not empty"),
    ("datasets[0].streaming", ["true"], "true or false"),
    ("datasets[0].weight", [0, -1, "2"], "a number > 0"),
    ("datasets[0].auth", ["token", 1], "an object"),
    ("datasets[0].auth.password", [1], "a string that is not empty"),
    ("artifacts.log_uri", ["", "ftp://x/y"], URI),
    ("artifacts.output_uri", ["", "x://y"], URI),
    ("artifacts.status_stream_url", ["x", "s3://b", "http://169.254.169.254/"], HOOK),
    ("artifacts.auth", [1], "an object"),
    ("tuning_parameters", [[], 1], "an object"),
    ("tuning_parameters.learning_rate", [0, -1, "2e-4", True], "a number > 0"),
    ("tuning_parameters.batch_size", [0, 1.5], "an integer ≥ 1"),
    ("tuning_parameters.micro_batch_size", [0], "an integer ≥ 1"),
    ("tuning_parameters.gradient_accumulation_steps", [0], "an integer ≥ 1"),
    ("tuning_parameters.num_epochs", [0, "3"], "a number > 0"),
    ("tuning_parameters.max_steps", [0, -1], "an integer ≥ 1"),
    ("tuning_parameters.warmup_ratio", [-0.1, 1.5], "a number from 0 to 1"),
    ("tuning_parameters.warmup_steps", [-1], "an integer ≥ 0"),
    ("tuning_parameters.lr_scheduler", ["cosin"], "one of 'linear', 'cosine'"),
    ("tuning_parameters.optimizer", ["adam"], "one of 'adamw', 'adamw_8bit', 'paged_adamw_8bit', 'adafactor'"),
    ("tuning_parameters.weight_decay", [-1], "a number ≥ 0"),
    ("tuning_parameters.max_grad_norm", [-1], "a number ≥ 0"),
    ("tuning_parameters.gradient_checkpointing", ["true"], "true or false"),
    ("tuning_parameters.max_sequence_length", [0], "an integer ≥ 1"),
    ("tuning_parameters.packing", [0], "true or false"),
    ("tuning_parameters.objective", ["", "a b"], "a name of up to 64 characters"),
    ("tuning_parameters.seed", [-1, 2**32], "an integer from 0 to 4294967295"),
    ("tuning_parameters.logging_steps", [0], "an integer ≥ 1"),
    ("tuning_parameters.save_steps", [0], "an integer ≥ 1"),
    ("tuning_parameters.save_total_limit", [0], "an integer ≥ 1"),
    ("tuning_parameters.eval_steps", [0], "an integer ≥ 1"),
    ("tuning_parameters.eval_ratio", [1, -0.1], "a number ≥ 0 and < 1"),
    ("tuning_parameters.early_stopping_patience", [0], "an integer ≥ 1"),
    ("callbacks.webhook_url", ["x", "ftp://h", "http://", "http://2852039166/x", "https://[fd00:ec2::254]/"], HOOK),
    ("callbacks.auth_header", ["a\r\nX: y", " a", "a\x7f"], "one line of printable characters"),
    ("callbacks.event_filter", ["running"], "a list"),
    ("callbacks.event_filter[0]", [["job.running"], ["done"]], "one of 'queued', 'submitted'"),
    ("extra_parameters", [[]], "an object"),
    ("extra_parameters.engine", ["shell"], "one of 'text', 'diffusion', 'command'"),
    ("extra_parameters.command", [[], "sh"], "a list of strings that is not empty"),
    ("extra_parameters.command[0]", [[1]], "a string"),
    ("extra_parameters.env", ["A=b", []], "an object"),
    ("extra_parameters.env.A", [{"A": 1}], "a string that is not empty"),
    ("extra_parameters.env.LD_PRELOAD", [{"LD_PRELOAD": "x"}], "a variable's name"),
    ("extra_parameters.env.PYTHONPATH", [{"PYTHONPATH": "x"}], "a variable's name"),
    ("extra_parameters.env.PATH", [{"PATH": "x"}], "a variable's name"),
    ("extra_parameters.env.TRAINYARD_TOKEN", [{"TRAINYARD_TOKEN": "x"}], "a variable's name"),
    ("extra_parameters.env.A=B", [{"A=B": "x"}], "a variable's name"),
    ("extra_parameters.max_retries", [-1, 0.5], "an integer ≥ 0"),
    ("extra_parameters.stall_minutes", [0], "a number > 0"),
    ("extra_parameters.on_bad_row", ["ignore"], "one of 'fail', 'skip'"),
    ("extra_parameters.merge", ["no"], "true or false"),
    ("extra_parameters.strategy", ["", 1], "a string that is not empty"),
    ("backend", ["", "a b", 1], "a name of up to 64 characters"),
    ("priority", [-101, 101, 0.5, "1"], "an integer from −100 to 100"),
    ("labels", [[], {str(n): "x" for n in range(65)}], "an object of strings of at most 64"),
    ("labels.a", [{"a": 1}], "a string"),
]


REQUIRED = [
    "job_id",
    "base_model",
    "base_model.provider",
    "base_model.model_name",
    "datasets",
    "datasets[0].source",
    "datasets[0].format",
    "artifacts",
    "artifacts.log_uri",
    "artifacts.output_uri",
]


def put(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with one field set; a path that ends inside a given container sets the container."""
    if path.rpartition(".")[0] in ("extra_parameters.env", "labels") and isinstance(value, dict):
        path = path.rpartition(".")[0]
    if path.endswith("[0]") and path != "datasets[0]":
        path = path[:-3]
    changed = copy.deepcopy(document)
    *way, last = path.replace("[0]", ".0").split(".")
    here: Any = changed
    for part in way:
        here = here[int(part)] if part.isdigit() else here.setdefault(part, {})
    here[int(last) if last.isdigit() else last] = value
    return changed


@pytest.mark.parametrize(
    ("path", "value", "phrase"), [(path, value, phrase) for path, values, phrase in REFUSED for value in values]
)
def test_a_wrong_value_is_one_error_at_its_path(small, path, value, phrase):
    found = structure(put(small, path, value), TrainRequest)
    assert found.value is None
    assert [error.path for error in found.errors] == [path]
    assert found.errors[0].message.startswith(f"must be {phrase}")


@pytest.mark.parametrize("path", REQUIRED)
def test_what_is_required_must_be_there_and_null_is_not_there(small, path):
    assert [str(error) for error in structure(put(small, path, None), TrainRequest).errors] == [f"{path}: is required"]


@pytest.mark.parametrize("path", sorted({path for path, _, _ in REFUSED if "[0]" not in path} - set(REQUIRED)))
def test_null_means_absent_everywhere_else(small, path):
    assert structure(put(small, path, None), TrainRequest).errors == ()


def test_the_usage_guide_is_valid_with_exactly_one_warning(document):
    found = structure(document, TrainRequest)
    assert found.errors == ()
    assert found.warnings == (FieldWarning("customization.qlora", "is used only with method 'qlora', not with 'lora'"),)
    assert found.value.base_model.huggingface_token == Secret("hf_launchpad_token")
    assert found.value.datasets[0].auth.role_arn == "arn:aws:iam::123:role/FineTune"
    assert structure(document, TrainRequest, strict=True).value == found.value


def test_the_defaults_are_those_of_the_contract(small):
    request = structure(small, TrainRequest).value
    resources, tuning, customization = request.resources, request.tuning_parameters, request.customization
    assert (resources.gpus, resources.cpus, resources.memory_gb, resources.max_duration_minutes) == (1, 8, 64, 480)
    assert (customization.method, customization.rank, customization.lora_alpha) == ("lora", 16, 32)
    assert (customization.lora_dropout, customization.precision, customization.trainable_layers) == (0.05, "bf16", ())
    assert customization.target_modules is None
    assert (tuning.batch_size, tuning.num_epochs, tuning.warmup_ratio, tuning.lr_scheduler) == (8, 3, 0, "linear")
    assert (tuning.optimizer, tuning.weight_decay, tuning.max_grad_norm, tuning.packing) == ("adamw", 0, 1.0, False)
    assert (tuning.objective, tuning.seed, tuning.logging_steps, tuning.save_steps) == ("sft", 42, 10, None)
    assert (tuning.save_total_limit, tuning.eval_ratio, tuning.max_steps) == (3, 0, None)
    assert (request.base_model.revision, request.backend, request.priority, request.labels) == ("main", None, 0, {})
    assert request.callbacks.event_filter == LIFECYCLE
    assert request.extra_parameters.max_retries == 0


def test_a_valid_document_comes_back_the_same(document):
    del (
        document["base_model"]["auth_token"],
        document["base_model"]["huggingface_token"],
        document["callbacks"]["auth_header"],
    )
    request = structure(document, TrainRequest).value
    assert structure(unstructure(request), TrainRequest, strict=True).value == request


def test_the_resolved_document_has_the_flat_fields_alone(document):
    flat = unstructure(structure(document, TrainRequest).value)
    assert "lora" not in flat["customization"] and "gradient_checkpointing" not in flat["customization"]
    assert "asked" not in flat and "options" not in flat["extra_parameters"]
    assert flat["base_model"]["huggingface_token"] == MASK
