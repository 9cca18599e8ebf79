"""What `local` refuses because of its machine: GPUs, what they compute in, and packages that are not installed."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from backends.engines.machine import Machine
from common.devices import Device
from tests.unit.backends.engines.documents import GPUS, SMALL, document, found

GUIDE = Path(__file__).parents[3] / "data" / "usage_guide.json"


def test_without_the_extra_buckets_are_refused_by_the_name_of_what_to_install() -> None:
    bare = evolve(SMALL, absent=frozenset({"obstore", "boto3"}))
    errors = {k: v for k, v in found(json.loads(GUIDE.read_text()), bare).items() if not k.startswith("resources.")}
    uri = "s3:// needs obstore, which is not installed: pip install 'trainyard[storage]' would do"
    role = "needs boto3, which is not installed: pip install 'trainyard[storage]' would do"
    places = dict.fromkeys(("datasets[0].source", "artifacts.log_uri", "artifacts.output_uri"), uri)
    assert errors == places | {"datasets[0].auth.role_arn": role}


def test_on_a_machine_that_has_it_all_the_usage_guides_document_is_taken() -> None:
    four = tuple(Device(str(n), "NVIDIA A100-SXM4-80GB", 81920, 8.0) for n in range(4))
    assert found(json.loads(GUIDE.read_text()), evolve(GPUS, devices=four)) == {}


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"customization": {"method": "qlora"}}, "customization.method"),
        ({"customization": {"precision": "int8"}}, "customization.precision"),
        ({"tuning_parameters": {"optimizer": "adamw_8bit"}}, "tuning_parameters.optimizer"),
    ],
)
def test_what_quantises_names_the_extra_that_is_lacking(tmp_path: Path, patch: dict[str, Any], path: str) -> None:
    errors = found(document(tmp_path, **patch), evolve(SMALL, absent=frozenset({"bitsandbytes"})))
    assert list(errors) == [path]
    assert errors[path].endswith("needs bitsandbytes, which is not installed: pip install 'trainyard[quant]' would do")


def test_without_the_trainers_packages_nothing_is_taken(tmp_path: Path) -> None:
    errors = found(document(tmp_path), Machine(cpus=2, memory_gib=8, lacking=("torch", "peft")))
    expected = "local can't train here, torch, peft is not installed: pip install 'trainyard[train]' would do"
    assert errors == {"backend": expected}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, {}),
        ({"gpus": 1, "gpu_type": "a100"}, {}),
        ({"gpu_type": "H100"}, {}),
        ({"gpus": 0}, {}),
        ({"gpus": 0, "gpu_type": "L4"}, {}),
        ({"gpus": 2}, {}),
        ({"gpus": 3}, {"resources.gpus": "3 asked, this machine has 2; gpus: 2 would run"}),
        ({"gpus": 2, "gpu_type": "H100"}, {"resources.gpus": "2 asked, this machine has 1 H100; gpus: 1 would run"}),
        ({"gpu_type": "L4"}, {"resources.gpu_type": "no GPU of this machine is a 'L4'; it has NVIDIA A100"}),
    ],
)
def test_gpus_are_matched_by_number_and_name(
    tmp_path: Path, resources: dict[str, Any], expected: dict[str, str]
) -> None:
    errors = found(document(tmp_path, resources=resources), GPUS)
    assert list(errors) == list(expected)
    assert all(words in errors[path] for path, words in expected.items())


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_every_precision_runs_with_and_without_a_gpu(tmp_path: Path, precision: str) -> None:
    half = {"precision": precision}
    assert found(document(tmp_path, customization=half), GPUS) == {}
    assert found(document(tmp_path, customization=half, resources={"gpus": 0}), GPUS) == {}


def test_bf16_is_refused_where_the_gpu_does_not_compute_it(tmp_path: Path) -> None:
    old = evolve(GPUS, devices=(Device("0", "Tesla T4", 15360, 7.5), Device("1", "NVIDIA L4", 23034, 8.9)))
    asked = {"customization": {"precision": "bf16"}}
    assert found(document(tmp_path, **asked), old) == {}
    errors = found(document(tmp_path, **asked, resources={"gpus": 2}), old)
    said = "Tesla T4 has compute capability 7.5, and bf16 needs 8.0; precision: fp16 would run, or gpus: 1"
    assert errors == {"customization.precision": said}
    compute = {"customization": {"method": "qlora", "qlora": {"bnb_4bit_compute_dtype": "bfloat16"}}}
    errors = found(document(tmp_path, **compute, resources={"gpu_type": "T4"}), old)
    assert list(errors) == ["customization.qlora.bnb_4bit_compute_dtype"]
    assert found(document(tmp_path, resources={"gpu_type": "T4"}), old) == {}


def test_on_gpus_there_is_a_process_for_each(tmp_path: Path) -> None:
    errors = found(document(tmp_path, extra_parameters={"processes": 2}), GPUS)
    assert "one process for each; gpus: 2, or gpus: 0" in errors["extra_parameters.processes"]
    assert found(document(tmp_path, extra_parameters={"processes": 2}, resources={"gpus": 2}), GPUS) == {}
