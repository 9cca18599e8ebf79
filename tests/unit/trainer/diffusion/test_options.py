"""Options as a run reads them: all that is wrong at once, and nothing that is taken and ignored."""

import ast
from pathlib import Path

import pytest

import trainyard.trainer.diffusion
from schemas.diffusion import definitions
from schemas.diffusion.dataloader import Entry
from schemas.fields import shape_of
from trainyard.trainer.diffusion.options import check_prediction, read_dataloader, read_options
from trainyard.trainer.failures import ConfigError

ROOT = Path(trainyard.trainer.diffusion.__file__).parent
#: What the loop never looks at, with the reason.
APART = {
    "num_processes",  # the launcher's
    "data_backend_config",  # read_dataloader's
    "metadata_backend",  # there is one
}


def request(**extra):
    return {
        "base_model": {"model_name": "owner/name"},
        "datasets": [{"source": "/data/pictures", "format": "imagefolder"}],
        "extra_parameters": {"engine": "diffusion", "model_family": "sdxl", **extra},
    }


def words() -> set[str]:
    """Attributes and texts in the diffusion trainer's code, but for what reads the document."""
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))) if path != ROOT / "options.py" else ():
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_option_and_every_field_of_an_entry_is_looked_at_by_the_trainer() -> None:
    names = {one.name for one in definitions() if not one.said_by} | shape_of(Entry).fields.keys()
    assert sorted(names - words() - APART) == []


def test_everything_that_is_wrong_ends_the_run_with_one_error() -> None:
    with pytest.raises(ConfigError) as e:
        read_options(request(lora_rank=0, use_ema="maybe"))
    assert [problem.partition(":")[0] for problem in e.value.problems] == [
        "extra_parameters.lora_rank",
        "extra_parameters.use_ema",
    ]


def test_keys_of_a_backend_are_none_of_ours() -> None:
    assert read_options(request(partition="gpu", nodes=2)).model_family == "sdxl"


def test_data_comes_from_the_dataloader_else_from_the_documents_data_sets() -> None:
    given = request()
    [entry] = read_dataloader(given, read_options(given))
    assert (entry.at, entry.instance_data_dir) == ("datasets[0]", "/data/pictures")
    given = request(data_backend_config=[{"id": "a", "instance_data_dir": "/b"}])
    assert [entry.id for entry in read_dataloader(given, read_options(given))] == ["a"]


def test_what_a_familys_prediction_can_not_follow_is_told_by_its_path() -> None:
    options = read_options(request(snr_gamma=5))
    check_prediction(options, "v_prediction")
    with pytest.raises(ConfigError, match=r"^extra_parameters\.snr_gamma: is for models that predict noise"):
        check_prediction(options, "flow_matching")
