"""The documents of docs/DIFFUSION.md are right: read as they stand there, on a machine that has their folders."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from backends.engines.limits import find_errors
from backends.engines.machine import Machine
from backends.engines.spec import build
from backends.local.backend import LocalBackend
from common.devices import Device
from common.settings import Settings
from common.storage import with_job
from schemas.converter import structure
from schemas.diffusion.document import filled, prepared
from schemas.engine_options import options_with
from schemas.fields import shape_of
from schemas.train import ExtraParameters, TrainRequest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "DIFFUSION.md"
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]
MACHINE = Machine(cpus=16, memory_gib=128, devices=(Device("0", "NVIDIA H100 80GB HBM3"),))


def placed(value: Any, folder: Path) -> Any:
    """The document with its folders below another, where they are made."""
    if isinstance(value, dict):
        return {key: placed(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [placed(item, folder) for item in value]
    if isinstance(value, str) and value.startswith("/"):
        (folder / value[1:]).mkdir(parents=True, exist_ok=True)
        (folder / value[1:] / "a.png").touch()
        return str(folder / value[1:])
    return value


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["job_id"])
def test_an_example_is_taken_and_says_nothing_in_vain(example: dict[str, Any], tmp_path: Path) -> None:
    document = filled(prepared(placed(example, tmp_path), tmp_path)).document
    read = structure(document, TrainRequest)
    assert read.value is not None and read.errors == read.warnings == ()
    common = shape_of(ExtraParameters).fields
    keys = {name: value for name, value in document["extra_parameters"].items() if name not in common}
    options = structure(keys, options_with(LocalBackend.Options, "diffusion"))
    assert options.errors == options.warnings == ()
    assert find_errors(read.value, MACHINE) == []
    spec = build(read.value, MACHINE, Settings())
    assert spec.engine == "diffusion" and spec.needs == {"gpu": 1}
    output = example["extra_parameters"].get("--output_dir", example.get("artifacts", {}).get("output_uri"))
    assert spec.output == with_job(f"{tmp_path}{output}", example["job_id"])


#: What stands in every configuration beside what its author changed.
USUAL = {
    "--checkpoint_step_interval": 100,
    "--checkpoint_epoch_interval": None,
    "--resolution": 1024,
    "--mixed_precision": "bf16",
    "--gradient_checkpointing": True,
    "--use_ema": False,
    "--lycoris_config": "config/lycoris_config.json",
    "--logging_dir": "logs",
    "--accelerate_visible_devices": ["0"],
    "--num_processes": 1,
    "--num_machines": 1,
    "--push_to_hub": False,
    "--write_batch_size": 64,
}


@pytest.mark.parametrize("example", EXAMPLES[1:], ids=lambda example: example["job_id"])
def test_a_whole_configuration_goes_in_as_it_is(example: dict[str, Any], tmp_path: Path) -> None:
    own = placed(example, tmp_path)
    (tmp_path / "loader.json").write_text(json.dumps(own["extra_parameters"].pop("--data_backend_config")))
    extra = {**USUAL, **own["extra_parameters"], "data_backend_config": "loader.json"}
    whole = filled(prepared({**own, "extra_parameters": extra}, tmp_path))
    assert whole.errors == ()
    read = structure(whole.document, TrainRequest)
    assert read.value is not None, read.errors
    assert find_errors(read.value, MACHINE) == []
    options = build(read.value, MACHINE, Settings()).request["extra_parameters"]
    assert (options["train_batch_size"], options["checkpoint_step_interval"]) == (extra["--train_batch_size"], 100)
    assert options["resume_from_folder"] == extra["--output_dir"]
    assert (options.get("lycoris_config") or {}).get("algo") == ("lokr" if "--lora_type" in extra else None)


def test_the_examples_are_the_tutorials_two_and_an_adapter_of_flux() -> None:
    extras = [example["extra_parameters"] for example in EXAMPLES]
    assert [extra.get("--report_to") for extra in extras] == [None, "none", "wandb"]
    families = [extra.get("model_family", extra.get("--model_family")) for extra in extras]
    assert families == ["flux", "pixart_sigma", "flux"]
