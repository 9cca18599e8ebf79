"""From request to spec: defaults lowered with a warning, paths absolute, no secrets."""

import json
from pathlib import Path
from typing import Any

import pytest

from backends.engines.machine import Machine
from backends.engines.spec import TRAINER, build
from common.backend import JobSpec
from common.devices import Device
from common.folder import spec_document
from common.job import Job
from common.settings import Settings
from schemas.converter import structure
from schemas.train import TrainRequest
from tests.unit.backends.engines.documents import GPUS, SMALL, document


def built(folder: Path, machine: Any = SMALL, **patch: Any) -> JobSpec:
    read = structure(document(folder, **patch), TrainRequest)
    assert read.value is not None, read.errors
    return build(read.value, machine, Settings(data_dir=folder, min_free_bytes=4096))


def test_defaults_are_lowered_to_what_the_machine_has_with_a_warning_each(tmp_path: Path) -> None:
    spec = built(tmp_path)
    assert [str(w) for w in spec.warnings] == [
        "resources.gpus: lowered from the default 1 to 0: this machine has no GPU",
        "resources.cpus: lowered from the default 8 to the 2 that this machine has",
        "resources.memory_gb: lowered from the default 64 to the 23 that this machine has",
    ]
    assert (spec.lane, spec.needs, spec.threads, spec.deadline_minutes) == ("cpu", {"cpu": 1}, 2, 480)
    resources: Any = spec.request["resources"]
    assert (resources["gpus"], resources["cpus"], resources["memory_gb"]) == (0, 2, 23)
    assert (spec.engine, spec.argv, spec.folder) == ("text", TRAINER, True)


@pytest.mark.parametrize(("name", "unused"), [("model", True), ("owner/name", False), ("s3://bucket/model", True)])
def test_a_revision_of_what_is_no_hub_is_a_warning(tmp_path: Path, name: str, unused: bool) -> None:
    name = str(tmp_path / name) if name == "model" else name
    warnings = built(tmp_path, base_model={"model_name": name, "revision": "v1"}).warnings
    assert ("base_model.revision" in [w.path for w in warnings]) is unused
    assert "base_model.revision" not in [w.path for w in built(tmp_path, base_model={"model_name": name}).warnings]


def test_on_a_gpu_nothing_is_lowered(tmp_path: Path) -> None:
    spec = built(tmp_path, GPUS)
    assert (spec.lane, spec.needs, spec.threads, spec.warnings) == ("gpu", {"gpu": 1}, 8, ())


def test_a_gpu_type_on_a_cpu_run_is_a_warning(tmp_path: Path) -> None:
    spec = built(tmp_path, GPUS, resources={"gpus": 0, "gpu_type": "H100"})
    assert [str(w) for w in spec.warnings] == ["resources.gpu_type: is not used: the job runs on the CPU"]


@pytest.mark.parametrize(
    ("given", "expected", "warned"),
    [
        ({}, (8, None, None), False),
        ({"batch_size": 7}, (7, None, None), False),
        ({"batch_size": 16, "micro_batch_size": 16}, (16, 16, 1), False),
        ({"batch_size": 16, "gradient_accumulation_steps": 2}, (16, 8, 2), False),
        ({"micro_batch_size": 2}, (8, 2, 4), False),
        ({"micro_batch_size": 3}, (6, 3, 2), True),
        ({"micro_batch_size": 32}, (32, 32, 1), True),
        ({"gradient_accumulation_steps": 3}, (6, 2, 3), True),
        ({"micro_batch_size": 5, "gradient_accumulation_steps": 5}, (25, 5, 5), True),
    ],
)
def test_the_batch_is_cut_as_asked_and_what_follows_is_filled_in(
    tmp_path: Path, given: dict[str, int], expected: tuple[int, int | None, int | None], warned: bool
) -> None:
    spec = built(tmp_path, tuning_parameters=given)
    assert cut(spec) == expected
    assert ("tuning_parameters.batch_size" in [w.path for w in spec.warnings]) is warned


def cut(spec: JobSpec) -> tuple[int | None, ...]:
    tuning: Any = spec.request["tuning_parameters"]
    return tuple(tuning[name] for name in ("batch_size", "micro_batch_size", "gradient_accumulation_steps"))


@pytest.mark.parametrize(
    ("given", "expected", "warned"),
    [
        ({}, (6, None, None), "set to 6 in place of the default 8, a multiple of the 3 processes"),
        ({"batch_size": 12}, (12, None, None), None),
        ({"batch_size": 12, "micro_batch_size": 2}, (12, 2, 2), None),
        ({"micro_batch_size": 4}, (12, 4, 1), "set to 12 in place of the default 8, to fit the batch sizes"),
        ({"batch_size": 12, "micro_batch_size": 2, "gradient_accumulation_steps": 2}, (12, 2, 2), None),
    ],
)
def test_a_batch_is_of_all_processes_together(
    tmp_path: Path, given: dict[str, int], expected: tuple[int | None, ...], warned: str | None
) -> None:
    three = Machine(cpus=4, memory_gib=8)
    spec = built(tmp_path, three, tuning_parameters=given, extra_parameters={"processes": 3})
    said = [w.message for w in spec.warnings if w.path == "tuning_parameters.batch_size"]
    assert cut(spec) == expected
    assert spec.options["processes"] == 3
    assert [warned] == [None if not said else said[0][: len(warned or "")]]


def test_several_gpus_are_as_many_processes(tmp_path: Path) -> None:
    spec = built(tmp_path, GPUS, resources={"gpus": 2})
    assert (spec.needs, spec.options["processes"]) == ({"gpu": 2}, 2)


def test_a_job_for_one_kind_of_gpu_waits_for_that_kind(tmp_path: Path) -> None:
    assert built(tmp_path, GPUS).needs == {"gpu": 1}
    spec = built(tmp_path, GPUS, resources={"gpu_type": "a100"})
    assert (spec.needs, spec.lane) == ({"gpu": 1, "gpu:NVIDIA A100-SXM4-80GB": 1}, "gpu:NVIDIA A100-SXM4-80GB")
    same = Machine(cpus=8, memory_gib=64, devices=(Device("0", "NVIDIA A100"), Device("1", "NVIDIA A100")))
    assert built(tmp_path, same, resources={"gpu_type": "a100"}).needs == {"gpu": 1}


def test_the_default_bf16_is_lowered_where_no_gpu_computes_it(tmp_path: Path) -> None:
    old = Machine(cpus=8, memory_gib=64, devices=(Device("0", "Tesla T4", 15360, 7.5),))
    spec = built(tmp_path, old)
    assert spec.request["customization"]["precision"] == "fp16"  # type: ignore[index]
    assert [w.path for w in spec.warnings] == ["customization.precision"]
    assert built(tmp_path, old, customization={"method": "lora", "precision": "fp32"}).warnings == ()


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"extra_parameters": {"merge": True}, "customization": {"method": "full"}}, "extra_parameters.merge"),
        ({"extra_parameters": {"strategy": "ddp"}}, "extra_parameters.strategy"),
        ({"customization": {"method": "full", "lora": {"rank": 4}}}, "customization.rank"),
        ({"artifacts": {"auth": {"token": "t0"}}}, "artifacts.auth"),
    ],
)
def test_what_has_no_use_is_said_to_have_none(tmp_path: Path, patch: dict[str, Any], path: str) -> None:
    (warning,) = built(tmp_path, GPUS, **patch).warnings
    assert warning.path == path
    assert warning.message.startswith("is not used")


def test_places_of_others_are_kept_as_they_were_written(tmp_path: Path) -> None:
    given = {"log_uri": "s3://bucket/logs/job-1/", "output_uri": "gs://bucket/results"}
    rows = {"source": "owner/rows", "format": "hf"}
    spec = built(tmp_path, artifacts=given, base_model={"model_name": "hf://owner/name"}, datasets=[rows])
    assert (spec.log, spec.output) == ("s3://bucket/logs/job-1", "gs://bucket/results/job-1")
    assert spec.request["datasets"][0]["source"] == "owner/rows"  # type: ignore[index]
    assert spec.request["base_model"]["model_name"] == "hf://owner/name"  # type: ignore[index]


def test_outputs_are_absolute_and_end_in_the_jobs_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"log_uri": f"file://{tmp_path}/my%20logs/", "output_uri": "results/job-1"}
    spec = built(tmp_path, artifacts=given, base_model={"model_name": "./model"})
    assert spec.log == str(tmp_path / "my logs" / "job-1")
    assert spec.output == str(tmp_path / "results" / "job-1")
    assert spec.request["base_model"]["model_name"] == str(tmp_path / "model")  # type: ignore[index]


def test_the_spec_has_no_secret_and_no_mask(tmp_path: Path) -> None:
    spec = built(
        tmp_path,
        base_model={"auth_token": "hf_one", "huggingface_token": "hf_two"},
        callbacks={"webhook_url": "http://127.0.0.1:1/x", "auth_header": "Bearer three"},
        extra_parameters={"env": {"NAME": "four-four"}},
    )
    text = json.dumps(spec.request)
    assert not any(word in text for word in ("hf_one", "hf_two", "three", "four-four", "•"))
    assert spec.request["base_model"]["huggingface_token"] is None  # type: ignore[index]


def test_what_depends_on_other_fields_is_resolved(tmp_path: Path) -> None:
    tuning: Any = built(tmp_path, customization={"method": "full"}).request["tuning_parameters"]
    assert tuning["learning_rate"] == 5e-5
    assert built(tmp_path).request["extra_parameters"]["engine"] == "text"  # type: ignore[index]


def test_spec_json_says_what_the_contract_lists(tmp_path: Path) -> None:
    spec = built(tmp_path)
    made = spec_document(Job(uid="ab" * 16, job_id="job-1", backend="local"), spec, ["1"])
    assert set(made) == {
        *("uid", "job_id", "engine", "request", "options", "output"),
        *("log", "devices", "threads", "deadline_minutes", "changes"),
    }
    assert (made["devices"], made["changes"], made["threads"]) == (["1"], [], 2)
    assert json.loads(json.dumps(made)) == made
