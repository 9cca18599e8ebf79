"""What fields say together: spellings, conflicts, defaults that depend, and what was asked for."""

import copy
import time

import pytest
from attrs import evolve

from schemas.converter import structure, unstructure
from schemas.secrets import mask, same
from schemas.strict_json import parse_json
from schemas.train import TrainRequest, resolve
from schemas.train_terms import JOB_ID


def read(small, **changes):
    return structure(small | changes, TrainRequest)


def errors(small, **changes):
    return [str(error) for error in read(small, **changes).errors]


def test_nested_lora_fields_are_the_flat_ones(small):
    nested = {"lora": {"rank": 4, "alpha": 8, "dropout": 0, "target_modules": ["q"]}}
    flat = {"rank": 4, "lora_alpha": 8, "lora_dropout": 0, "target_modules": ["q"]}
    assert read(small, customization=nested).value == read(small, customization=flat).value
    assert read(small, customization=nested | flat).value == read(small, customization=flat).value
    assert read(small, customization={"lora": {}}).value == read(small).value


@pytest.mark.parametrize(
    ("spelled", "name", "one", "other"),
    [
        ("rank", "rank", 4, 8),
        ("alpha", "lora_alpha", 4, 8),
        ("dropout", "lora_dropout", 0, 0.5),
        ("dropout", "lora_dropout", 0.5, 0),
        ("target_modules", "target_modules", ["q"], ["v"]),
    ],
)
def test_nested_and_flat_that_differ_are_an_error_naming_both(small, spelled, name, one, other):
    customization = {name: one, "lora": {spelled: other}}
    assert errors(small, customization=customization) == [
        f"customization.lora.{spelled}: differs from customization.{name}: give one of them, or the same value"
    ]


def test_conflicts_are_told_beside_other_errors(small):
    customization = {"method": "x", "rank": 1, "lora": {"rank": 2}, "gradient_checkpointing": True}
    found = errors(small, priority="x", customization=customization, tuning_parameters={"seed": -1})
    assert {line.split(": ")[0] for line in found} == {
        "priority",
        "customization.method",
        "customization.lora.rank",
        "tuning_parameters.seed",
    }


def test_empty_lists_of_modules_are_absent(small):
    customization = {"target_modules": [], "trainable_layers": [], "lora": {"target_modules": []}}
    request = read(small, customization=customization).value
    assert request == read(small).value
    assert not {path for path in request.asked if path.endswith(("target_modules", "trainable_layers"))}
    assert read(
        small, customization={"target_modules": [], "lora": {"target_modules": ["q"]}}
    ).value.customization.target_modules == ("q",)


def test_new_transformer_is_a_spelling_of_scratch(small):
    assert read(small, customization={"method": "new-transformer"}).value.customization.method == "scratch"


@pytest.mark.parametrize("wish", [True, False])
def test_gradient_checkpointing_is_taken_from_customization_too(small, wish):
    request = read(small, customization={"gradient_checkpointing": wish}).value
    assert request.tuning_parameters.gradient_checkpointing is wish
    assert request.customization.gradient_checkpointing is None
    assert "tuning_parameters.gradient_checkpointing" in request.asked
    both = {"customization": {"gradient_checkpointing": wish}, "tuning_parameters": {"gradient_checkpointing": wish}}
    assert read(small, **both).value == request
    both["tuning_parameters"]["gradient_checkpointing"] = not wish
    assert errors(small, **both) == [
        "customization.gradient_checkpointing: differs from tuning_parameters.gradient_checkpointing:"
        " give one of them, or the same value"
    ]


@pytest.mark.parametrize("method", ["lora", "full", None])
def test_qlora_without_its_method_is_a_warning(small, method):
    customization = {"method": method, "qlora": {"use_double_quant": True}}
    assert [warning.path for warning in read(small, customization=customization).warnings] == ["customization.qlora"]


def test_qlora_with_its_method_is_none(small):
    assert read(small, customization={"method": "qlora", "qlora": {"use_double_quant": True}}).warnings == ()


def test_engine_command_needs_a_command(small):
    assert errors(small, extra_parameters={"engine": "command"}) == [
        "extra_parameters.command: is required with engine 'command': a list of strings"
    ]
    assert read(small, extra_parameters={"engine": "command", "command": ["sh", "x.sh"]}).errors == ()
    other = read(small, extra_parameters={"engine": "text", "command": ["sh"]})
    assert [warning.path for warning in other.warnings] == ["extra_parameters.command"]


def test_keys_of_backends_are_kept_as_options(small):
    extra = {"partition": "gpu", "max_retries": 2, "env": {"A": "b"}, "nothing": None}
    found = read(small, extra_parameters=extra)
    assert found.warnings == ()
    assert found.value.extra_parameters.options == {"partition": "gpu"}
    assert unstructure(found.value)["extra_parameters"]["partition"] == "gpu"


@pytest.mark.parametrize(
    ("method", "rate"),
    [("lora", 2e-4), ("qlora", 2e-4), ("peft", 2e-4), ("adapter", 2e-4), ("full", 5e-5), ("scratch", 5e-5)],
)
def test_the_learning_rate_depends_on_the_method(small, method, rate):
    request = read(small, customization={"method": method}).value
    assert resolve(request).tuning_parameters.learning_rate == rate
    given = read(small, customization={"method": method}, tuning_parameters={"learning_rate": 1}).value
    assert resolve(given).tuning_parameters.learning_rate == 1


def test_asked_names_what_the_document_gave_and_nothing_else(small):
    small["datasets"][0] |= {"split": "train", "weight": None}
    request = read(small, resources={"gpus": 0, "cpus": None}, labels={}, customization={"lora": {"alpha": 4}}).value
    assert request.asked == {
        "job_id", "base_model", "base_model.provider", "base_model.model_name", "datasets", "datasets[0]",
        "datasets[0].source", "datasets[0].format", "datasets[0].split", "artifacts", "artifacts.log_uri",
        "artifacts.output_uri", "resources", "resources.gpus", "labels", "customization", "customization.lora",
        "customization.lora.alpha", "customization.lora_alpha",
    }  # fmt: skip
    assert request == evolve(request, asked=frozenset())


def test_unknown_fields_name_the_nearest_known_one_wherever_it_is(small):
    customization = {"ranks": 1, "lora": {"lora_alpha": 1}}
    found = read(small, learning_rate=1, jobid="x", customization=customization, whatever={"a": 1})
    assert {warning.path: warning.message for warning in found.warnings} == {
        "learning_rate": "is not a known field; did you mean 'tuning_parameters.learning_rate'?",
        "jobid": "is not a known field; did you mean 'job_id'?",
        "customization.ranks": "is not a known field; did you mean 'rank'?",
        "customization.lora.lora_alpha": "is not a known field; did you mean 'customization.lora_alpha'?",
        "whatever": "is not a known field",
    }


def test_masks_posted_back_are_errors_wherever_they_stand(small):
    document = copy.deepcopy(small)
    document["base_model"]["auth_token"] = "••••"
    document["callbacks"] = {"auth_header": "••••", "webhook_url": "https://••••@h/?••••"}
    document["extra_parameters"] = {"env": {"A": "••••"}, "my_token": "••••", "deep": {"x": ["s3://b/?••••"]}}
    document["strange"] = {"api_key": "••••"}
    document["customization"] = {"peft": {"config": {"key": "••••"}}}
    found = structure(document, TrainRequest).errors
    assert sorted(error.path for error in found) == [
        "base_model.auth_token",
        "callbacks.auth_header",
        "callbacks.webhook_url",
        "customization.peft.config.key",
        "extra_parameters.deep.x[0]",
        "extra_parameters.env.A",
        "extra_parameters.my_token",
        "strange.api_key",
    ]
    assert all("mask of a secret" in error.message for error in found)
    assert structure(document, TrainRequest, masked=True).errors == ()


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "_x", "validate2", "x" * 128])
def test_job_ids_of_letters_digits_dot_underscore_and_dash_are_taken(name):
    assert JOB_ID.holds(name)


def test_integers_are_taken_for_numbers_and_whole_numbers_for_integers(small):
    request = read(small, resources={"memory_gb": 32, "gpus": 2.0}).value
    assert (request.resources.memory_gb, request.resources.gpus) == (32, 2)
    assert isinstance(request.resources.gpus, int)


def test_a_ten_megabyte_string_makes_a_short_message(small):
    found = structure(parse_json(b'{"job_id": "%s"}' % (b"x" * 10_000_000)), TrainRequest)
    assert all(len(error.message) < 300 for error in found.errors)


@pytest.mark.parametrize(
    "changes",
    [
        {"x": "a" * 1_000_000 + "://@?"},
        {"callbacks": {"webhook_url": "http://" + "g" * 1_000_000 + "!"}},
        {"callbacks": {"event_filter": ["runing"] * 100_000}},
        {"datasets": [1] * 200_000},
        {f"jobid{n}": n for n in range(60_000)},
    ],
    ids=["masking", "url", "near misses", "errors", "unknown fields"],
)
def test_hostile_documents_cost_no_more_than_their_length(small, changes):
    before = time.process_time()
    structure(small | changes, TrainRequest)
    assert same(mask(small | changes), mask(small | changes))
    assert time.process_time() - before < 3
