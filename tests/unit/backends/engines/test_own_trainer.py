"""A program of the caller's own on `local`: what is refused, and what its run is handed."""

import sys
from pathlib import Path
from typing import Any

import pytest

from backends.engines.machine import Machine
from backends.engines.spec import build
from backends.local.backend import LocalBackend
from common.backend import BackendContext
from common.clock import Clock
from common.devices import DevicePool
from common.settings import Settings
from schemas.converter import structure
from schemas.train import TrainRequest
from tests.unit.backends.engines.documents import GPUS, SMALL, document, found

COMMAND: dict[str, Any] = {"extra_parameters": {"command": ["sh", "-c", "true"]}}


def read(folder: Path, **patch: Any) -> TrainRequest:
    done = structure(document(folder, **COMMAND | patch), TrainRequest)
    assert done.value is not None, done.errors
    return done.value


@pytest.mark.parametrize(
    "patch",
    [
        {"datasets": [{"source": "/no/such/rows", "format": "imagefolder"}]},
        {"base_model": {"model_name": "/no/such/model"}},
        {"tuning_parameters": {"objective": "own", "batch_size": 7, "micro_batch_size": 2, "eval_steps": 5}},
        {"customization": {"method": "full", "precision": "int8"}},
    ],
)
def test_what_the_text_engine_checks_is_no_matter_of_ours(tmp_path: Path, patch: dict[str, Any]) -> None:
    assert found(document(tmp_path, **COMMAND | patch)) == {}


def test_it_needs_nothing_of_ours_installed(tmp_path: Path) -> None:
    bare = Machine(cpus=2, memory_gib=23.5, lacking=("torch",), absent=frozenset({"obstore"}))
    assert found(document(tmp_path, **COMMAND), bare) == {}
    assert list(found(document(tmp_path), bare)) == ["backend"]


def test_machine_and_places_are_looked_at_as_for_every_job(tmp_path: Path) -> None:
    asked = {"resources": {"gpus": 3, "cpus": 4}, "artifacts": {"output_uri": "hf://x/y"}}
    assert sorted(found(document(tmp_path, **COMMAND | asked))) == [
        "artifacts.output_uri",
        "resources.cpus",
        "resources.gpus",
    ]


@pytest.mark.parametrize(
    ("command", "path", "words"),
    [
        ([""], "extra_parameters.command[0]", "a program's name or path"),
        (["a", "x" * 70_000], "extra_parameters.command", "has 70003 bytes"),
        (["a", "--to=https://me:pw@host/x"], "extra_parameters.command[1]", "extra_parameters.env would keep it"),
    ],
)
def test_a_command_line_that_can_not_be_or_must_not_be(tmp_path: Path, command: list[str], path: str, words: str):
    errors = found(document(tmp_path, extra_parameters={"command": command}))
    assert list(errors) == [path]
    assert words in errors[path]


def test_the_operator_may_forbid_it(tmp_path: Path) -> None:
    for allowed, paths in ((None, []), (True, []), (False, ["extra_parameters.command"])):
        settings = Settings(data_dir=tmp_path, allow_command=allowed)
        context = BackendContext(settings=settings, clock=Clock(), devices=DevicePool([]))
        backend = LocalBackend(context)
        errors = backend.validate_request(read(tmp_path))
        assert [e.path for e in errors] == paths
    assert "TRAINYARD_ALLOW_COMMAND" in errors[0].message


def test_the_spec_has_the_command_alone_and_the_document_as_it_is(tmp_path: Path) -> None:
    spec = build(read(tmp_path, tuning_parameters={"batch_size": 7}), SMALL, Settings(data_dir=tmp_path))
    assert (spec.engine, spec.argv, spec.options) == ("command", ("sh", "-c", "true"), {})
    request: Any = spec.request
    assert request["tuning_parameters"]["batch_size"] == 7
    assert request["extra_parameters"]["engine"] == "command"
    assert spec.output == str(tmp_path / "out/job-1")
    assert (spec.needs, spec.threads, spec.deadline_minutes) == ({"cpu": 1}, 2, 480)


def test_any_gpu_of_the_type_will_do(tmp_path: Path) -> None:
    spec = build(read(tmp_path, resources={"gpu_type": "A100"}), GPUS, Settings(data_dir=tmp_path))
    assert spec.needs == {"gpu": 1, "gpu:NVIDIA A100-SXM4-80GB": 1}


def test_a_command_beside_the_text_engine_is_a_warning(tmp_path: Path) -> None:
    given = document(tmp_path, extra_parameters={"engine": "text", "command": [sys.executable]})
    read = structure(given, TrainRequest)
    assert read.value is not None
    assert [w.path for w in read.warnings] == ["extra_parameters.command"]
    assert build(read.value, SMALL, Settings(data_dir=tmp_path)).engine == "text"
