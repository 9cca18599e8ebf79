"""What the answer to a posted document says beside it: words that are not read, devices that another one chooses."""

from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from backends.engines.limits import find_errors
from backends.engines.machine import Machine
from backends.engines.spec import build
from common.devices import Device
from common.settings import Settings
from schemas.converter import structure
from schemas.train import TrainRequest

MACHINE = Machine(cpus=8, memory_gib=64, devices=(Device("0", "NVIDIA H100 80GB HBM3"),))


def posted(folder: Path, **extra: Any) -> TrainRequest:
    document = {
        "job_id": "a",
        "base_model": {"provider": "custom", "model_name": "owner/name"},
        "datasets": [{"source": str(folder), "format": "imagefolder"}],
        "artifacts": {"log_uri": "/l", "output_uri": "/o"},
        "resources": {"gpus": 1, "cpus": 1, "memory_gb": 1},
        "extra_parameters": {"engine": "diffusion", "model_family": "flux", **extra},
    }
    read = structure(document, TrainRequest)
    assert read.value is not None, read.errors
    return read.value


def notes(request: TrainRequest) -> dict[str, str]:
    return {warning.path: warning.message for warning in build(request, MACHINE, Settings()).warnings}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metadata.jsonl", "metadata.jsonl is not read: caption_strategy textfile"),
        ("metadata.csv", "metadata.csv is not read"),
        ("b.txt", "b.txt beside b.png is not read: caption_strategy textfile would read it"),
    ],
)
def test_words_beside_pictures_that_nobody_asked_for_are_told(tmp_path: Path, name: str, words: str) -> None:
    for each in ("a.png", "b.png", "readme.txt"):
        (tmp_path / each).touch()
    assert "datasets[0].source" not in notes(posted(tmp_path))
    (tmp_path / name).touch()
    said = notes(posted(tmp_path))["datasets[0].source"]
    assert words in said and said.endswith("captions are made from the names of the files")
    assert "datasets[0].source" not in notes(posted(tmp_path, caption_strategy="filename"))
    loader = [{"id": "a", "instance_data_dir": str(tmp_path)}]
    at = "extra_parameters.data_backend_config[0].instance_data_dir"
    assert words in notes(posted(tmp_path, data_backend_config=loader))[at]
    loader[0]["caption_strategy"] = "textfile"
    assert at not in notes(posted(tmp_path, data_backend_config=loader))


def test_devices_by_name_are_only_counted(tmp_path: Path) -> None:
    at = "extra_parameters.accelerate_visible_devices"
    assert "how many GPUs" in notes(posted(tmp_path, **{"--accelerate_visible_devices": [3]}))[at]
    assert at not in notes(posted(tmp_path))


def test_curves_of_wandb_need_its_package(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    request = posted(tmp_path, report_to="tensorboard,wandb")
    assert find_errors(request, MACHINE) == []
    (error,) = find_errors(request, evolve(MACHINE, absent=frozenset({"wandb"})))
    assert str(error) == (
        "extra_parameters.report_to: tensorboard, wandb needs wandb, which is not installed: "
        "pip install 'trainyard[wandb]' would do"
    )
