"""What this version trains of image models: everything else is refused with its path and what would run."""

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from backends.engines.spec import build
from common.errors import InvalidRequest
from common.settings import Settings
from schemas.converter import structure
from schemas.train import TrainRequest
from tests.unit.backends.engines.documents import GPUS, SMALL, document, found, merged

LATER = "is not in this version"


def pictures(folder: Path, **patch: Any) -> dict[str, Any]:
    """A document that engine diffusion runs."""
    (folder / "pictures").mkdir(exist_ok=True)
    (folder / "pictures" / "a.png").write_bytes(b"")
    given = document(folder) | {"datasets": [{"source": str(folder / "pictures"), "format": "imagefolder"}]}
    ours = merged(given, {"extra_parameters": {"engine": "diffusion", "model_family": "flux"}})
    return dict(merged(ours, patch))


def spec(given: dict[str, Any], machine: Any = SMALL) -> Any:
    read = structure(given, TrainRequest)
    assert read.value is not None and found(given, machine) == {}
    return build(read.value, machine, Settings())


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"customization": {"method": "qlora"}}, "customization.method", "full or lora would run"),
    ({"customization": {"method": "full", "precision": "int8"}}, "customization.precision", "no_change would run"),
    ({"customization": {"peft": {"config": {"r": 8}}}}, "customization.peft", LATER),
    ({"customization": {"trainable_layers": ["a"]}}, "customization.trainable_layers", LATER),
    ({"tuning_parameters": {"objective": "dpo"}}, "tuning_parameters.objective", "is for language models"),
    ({"tuning_parameters": {"packing": True}}, "tuning_parameters.packing", "is for language models"),
    ({"tuning_parameters": {"eval_ratio": 0.1}}, "tuning_parameters.eval_ratio", "validation_prompt would show"),
    ({"tuning_parameters": {"early_stopping_patience": 3}}, "tuning_parameters.early_stopping_patience", LATER),
    ({"base_model": {"model_name": "/no/such/model"}}, "base_model.model_name", "there is no folder or file"),
    ({"extra_parameters": {"merge": True}}, "extra_parameters.merge", LATER),
    ({"extra_parameters": {"strategy": "fsdp"}}, "extra_parameters.strategy", "auto or ddp would run"),
    ({"extra_parameters": {"model_family": "fluxx"}}, "extra_parameters.model_family", "did you mean 'flux'"),
    ({"extra_parameters": {"snr_gamma": 5}}, "extra_parameters.snr_gamma", "matches flows"),
    ({"extra_parameters": {"mixed_precision": "fp16"}}, "extra_parameters.mixed_precision", "fp16 needs a GPU"),
    ({"extra_parameters": {"num_processes": 3}}, "extra_parameters.num_processes", "processes: 2 would run"),
    ({"extra_parameters": {"user_prompt_library": "/no/such"}}, "extra_parameters.user_prompt_library", "there is no"),
    (
        {"extra_parameters": {"post_checkpoint_script": "x https://me:secret@host/"}},
        "extra_parameters.post_checkpoint_script",
        "has a URL with a password",
    ),
]


@pytest.mark.parametrize(("patch", "path", "words"), REFUSED, ids=[f"{path}={words}" for _, path, words in REFUSED])
def test_what_is_not_done_is_refused_with_what_would_run(
    tmp_path: Path, patch: dict[str, Any], path: str, words: str
) -> None:
    errors = found(pictures(tmp_path, **patch))
    assert list(errors) == [path]
    assert words in errors[path]


@pytest.mark.parametrize(
    ("dataset", "field", "words"),
    [
        ({"format": "jsonl", "source": "/x"}, "format", "engine diffusion reads imagefolder"),
        ({"format": "imagefolder", "source": "/no/such"}, "source", "there is no folder /no/such"),
        ({"format": "imagefolder", "source": "https://h/x.zip", "auth": {"role_arn": "x"}}, "auth.role_arn", "s3://"),
        ({"auth": {"token": "x"}}, "auth", "leave it out"),
        ({"weight": 0.5}, "weight", "a whole number would run"),
        ({"split": "train"}, "split", "leave it out"),
        ({"streaming": True}, "streaming", "leave it out"),
    ],
)
def test_what_a_folder_of_pictures_has_not(tmp_path: Path, dataset: dict[str, Any], field: str, words: str) -> None:
    given = pictures(tmp_path)
    given["datasets"][0] |= dataset
    errors = found(given)
    assert list(errors) == [f"datasets[0].{field}"] and words in errors[f"datasets[0].{field}"]


@pytest.mark.parametrize(
    ("patch", "path"),
    [
        ({"datasets": [{"format": "imagefolder", "source": "s3://bucket/x", "auth": {}}]}, "datasets[0].source"),
        ({"base_model": {"weights_url": "gs://bucket/x.safetensors"}}, "base_model.weights_url"),
    ],
)
def test_pictures_and_weights_may_lie_elsewhere_where_that_can_be_read(
    tmp_path: Path, patch: dict[str, Any], path: str
) -> None:
    given = pictures(tmp_path, **{name: value for name, value in patch.items() if name != "datasets"})
    given["datasets"] = patch.get("datasets", given["datasets"])
    assert found(given) == {}
    errors = found(given, evolve(SMALL, absent=frozenset({"obstore"})))
    assert list(errors) == [path] and "needs obstore" in errors[path]


def test_an_empty_folder_and_a_file_hold_no_pictures(tmp_path: Path) -> None:
    given = pictures(tmp_path)
    for source, words in ((tmp_path / "empty", "is empty"), (tmp_path / "rows.jsonl", "is not a folder")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        given["datasets"][0]["source"] = str(source)
        assert words in found(given)["datasets[0].source"]


def test_the_folders_of_a_dataloader_are_looked_at(tmp_path: Path) -> None:
    here = str(tmp_path / "pictures")
    config = [{"id": "a", "instance_data_dir": here}, {"id": "b", "instance_data_dir": "/no/such"}]
    given = pictures(tmp_path, extra_parameters={"data_backend_config": config})
    assert list(found(given)) == ["extra_parameters.data_backend_config[1].instance_data_dir"]
    config.pop()
    assert found(given) == {}
    given["datasets"][0]["source"] = str(tmp_path)
    assert "leave one of the two out" in found(given)["datasets[0].source"]


@pytest.mark.parametrize(
    ("option", "value", "place"),
    [
        ("data_backend_config", [{"instance_prompt": "as on https://x/?id=3"}], "[0].instance_prompt"),
        (
            "lycoris_config",
            {"algo": "loha", "apply_preset": {"target_name": ["s3://k@x"]}},
            ".apply_preset.target_name[0]",
        ),
    ],
)
def test_a_url_with_a_secret_part_is_refused_however_deep_it_lies(
    tmp_path: Path, option: str, value: Any, place: str
) -> None:
    if isinstance(value, list):
        value = [{**value[0], "id": "a", "instance_data_dir": str(tmp_path / "pictures")}]
    errors = found(pictures(tmp_path, extra_parameters={"lora_type": "lycoris", option: value}))
    assert list(errors) == [f"extra_parameters.{option}{place}"]
    assert "leave that part out" in errors[f"extra_parameters.{option}{place}"]


def test_a_model_that_becomes_another_between_two_looks_is_told_as_an_error(tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "FluxPipeline"}')
    read = structure(pictures(tmp_path, base_model={"model_name": str(tmp_path)}), TrainRequest)
    assert read.value is not None
    index.write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    with pytest.raises(InvalidRequest, match="is of 'sdxl'"):
        build(read.value, SMALL, Settings())


def test_packages_that_lack_are_named_with_the_extra_that_has_them(tmp_path: Path) -> None:
    bare = evolve(SMALL, absent=frozenset({"diffusers", "lycoris", "optimi", "optimum", "bitsandbytes"}))
    given = pictures(tmp_path, extra_parameters={"lora_type": "lycoris", "optimizer": "optimi-lion"})
    errors = found(given, bare)
    assert errors["backend"].endswith("diffusers is not installed: pip install 'trainyard[diffusion]' would do")
    assert "needs lycoris" in errors["extra_parameters.lora_type"]
    assert "trainyard[diffusion]" in errors["extra_parameters.optimizer"]
    given = pictures(tmp_path, extra_parameters={"base_model_precision": "int8-quanto", "optimizer": "bnb-lion"})
    assert "trainyard[quant]" in found(given, bare)["extra_parameters.base_model_precision"]
    assert "trainyard[quant]" in found(given, bare)["extra_parameters.optimizer"]
    given = pictures(tmp_path, extra_parameters={"base_model_precision": "int8-torchao"})
    without = evolve(SMALL, absent=frozenset({"torchao"}))
    assert "needs torchao" in found(given, without)["extra_parameters.base_model_precision"]


def test_a_local_model_is_a_pipelines_folder_or_one_file(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    given = pictures(tmp_path, base_model={"model_name": str(model)})
    assert "holds no model_index.json" in found(given)["base_model.model_name"]
    (model / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    del given["extra_parameters"]["model_family"]
    assert spec(given).request["extra_parameters"]["model_family"] == "flux"
    file = tmp_path / "flux.safetensors"
    file.write_bytes(b"")
    assert found(pictures(tmp_path, base_model={"model_name": str(file)})) == {}


def test_a_run_is_handed_every_option_and_the_fields_that_mean_the_same(tmp_path: Path) -> None:
    lines = json.dumps([{"id": "a", "instance_data_dir": "pictures", "disabled": False, "crop": "yes"}])
    (tmp_path / "loader.json").write_text(lines)
    given = pictures(
        tmp_path,
        customization={"rank": 4},
        extra_parameters={
            "--learning_rate": "1e-3",
            "checkpointing_steps": 5,
            "train_batch_size": 3,
            "data_backend_config": str(tmp_path / "loader.json"),
            "lora_type": "lycoris",
            "partition": "of the backend",
        },
    )
    made = spec(given)
    assert made.engine == "diffusion" and made.argv[-1] == "trainyard.trainer"
    extra = made.request["extra_parameters"]
    assert (extra["engine"], extra["partition"], extra["lora_rank"]) == ("diffusion", "of the backend", 4)
    assert (extra["learning_rate"], extra["checkpoint_step_interval"], extra["seed"]) == (1e-3, 5, 42)
    assert "--learning_rate" not in extra and "checkpointing_steps" not in extra
    assert extra["data_backend_config"][0]["instance_data_dir"] == str(tmp_path / "pictures")
    assert extra["lycoris_config"]["algo"] == "lokr"
    tuning = made.request["tuning_parameters"]
    assert (tuning["learning_rate"], tuning["batch_size"], tuning["micro_batch_size"]) == (1e-3, 3, 3)
    assert [w.path for w in made.warnings if "lycoris" in w.path] == ["extra_parameters.lycoris_config"]


def test_processes_are_one_a_gpu_and_on_the_cpu_as_many_as_are_asked_for(tmp_path: Path) -> None:
    given = pictures(tmp_path, resources={"gpus": 2})
    made = spec(given, GPUS)
    assert (made.needs, made.options["processes"]) == ({"gpu": 2}, 2)
    assert made.request["extra_parameters"]["num_processes"] == 2
    given["extra_parameters"]["num_processes"] = 1
    assert "there is one process for each" in found(given, GPUS)["extra_parameters.num_processes"]
    made = spec(pictures(tmp_path, extra_parameters={"processes": "2"}))
    assert made.options["processes"] == 2
    assert made.request["tuning_parameters"]["batch_size"] == 8


def test_a_default_precision_is_one_that_the_gpu_computes_in(tmp_path: Path) -> None:
    old = evolve(GPUS, devices=tuple(evolve(device, compute_cap=7.5) for device in GPUS.devices))
    made = spec(pictures(tmp_path), old)
    assert made.request["extra_parameters"]["mixed_precision"] == "fp16"
    assert made.request["customization"]["precision"] == "fp16"
    errors = found(pictures(tmp_path, extra_parameters={"mixed_precision": "bf16"}), old)
    assert "fp16 would run" in errors["extra_parameters.mixed_precision"]
