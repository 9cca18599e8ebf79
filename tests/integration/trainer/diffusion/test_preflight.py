"""What a deep validation finds of an image model's job before anything is trained, cached or loaded."""

import json
import shutil

import pytest

from tests.examined import Examined
from tests.pictures import draw
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.preflight import Asked, examined
from trainyard.trainer.secrets import Secrets


class Looked(Examined):
    """Of an image model."""

    def __init__(self, folder, model):
        self.pictures, self.cache = folder / "pictures", folder / "cache"
        draw(self.pictures, count=6, edge=64)
        self.model = str(model)
        self.options = {
            "resolution": 32,
            "resolution_type": "pixel",
            "aspect_bucket_alignment": 16,
            "caption_strategy": "textfile",
            "train_batch_size": 2,
            "gradient_accumulation_steps": 1,
            "num_train_epochs": 2,
            "disable_bucket_pruning": True,
        }

    def found(self):
        request = {
            "base_model": {"model_name": self.model},
            "datasets": [{"source": str(self.pictures), "format": "imagefolder"}],
            "extra_parameters": {"engine": "diffusion", **self.options},
        }
        spec = {"engine": "diffusion", "request": request, "options": {"cache_dir": str(self.cache)}}
        return examined(Asked(spec, Secrets()))[0]


@pytest.fixture
def looked(tmp_path, tmp_path_factory):
    return Looked(tmp_path, shared_tiny("pixart_sigma", tmp_path_factory))


def test_pictures_buckets_captions_and_steps_are_counted_and_nothing_is_encoded(looked):
    found = looked.found()
    assert found["ok"] is True, found
    data = found["data"]
    assert (data["pictures"], sum(data["buckets"].values()), data["sets"][0]["pictures"]) == (6, 6, 6)
    assert data["captions"] >= 1 and found["steps"] >= 6
    assert (found["model"]["family"], found["model"]["trained"]) == ("pixart_sigma", "standard")
    assert found["model"]["bytes"] > 0
    memory = found["memory"]
    assert memory["estimate_bytes"] == sum(memory["parts"].values()) > 0 < memory["parts"]["activations"]
    assert memory["fits"] == (memory["estimate_bytes"] <= memory["available_bytes"])
    assert [path.name for path in looked.cache.iterdir()] == ["pictures"]
    looked.options["max_train_steps"] = 7
    looked.options["num_train_epochs"] = 0
    assert looked.found()["steps"] == 7


def test_captions_that_are_cut_and_a_warm_up_without_an_end_are_warnings(looked):
    looked.options |= {"tokenizer_max_length": 4, "lr_warmup_steps": 1000}
    warned = looked.warnings
    assert "are longer than the model reads, and are cut" in warned["datasets"]
    assert "steps warm up" in warned["extra_parameters.lr_warmup_steps"]


def test_a_model_of_another_family_and_one_without_a_part_are_named(looked, tmp_path):
    looked.options["model_family"] = "sdxl"
    assert "is of 'pixart_sigma'" in looked.errors["extra_parameters.model_family"]
    del looked.options["model_family"]
    lacking = tmp_path / "model"
    shutil.copytree(looked.model, lacking)
    shutil.rmtree(lacking / "vae")
    looked.model = str(lacking)
    [(path, message)] = looked.errors.items()
    assert path.startswith("extra_parameters.pretrained_") and "has no vae" in message


def test_a_hub_that_can_not_be_reached_is_told_and_a_file_elsewhere_is_the_runs_alone(looked):
    looked.model, looked.options["model_family"] = "owner/name", "pixart_sigma"
    assert "can't be reached" in next(iter(looked.errors.values())) and looked.reason == "credentials"
    looked.model = "hf://owner/name/transformer.safetensors"
    assert "is looked at by the run alone" in looked.warnings["base_model.model_name"]
    assert looked.found()["memory"] == {}


def test_a_picture_that_can_not_be_read_is_named_and_left_out_where_that_is_wished(looked):
    (looked.pictures / "broken.png").write_bytes(b"no picture")
    (looked.pictures / "broken.txt").write_text("a caption")
    assert any("broken.png" in message for message in looked.errors.values())
    assert looked.reason == "data"
    looked.options["on_bad_row"] = "skip"
    assert any("broken.png" in message for message in looked.warnings.values())


def test_a_pair_that_is_missing_is_told_by_name(looked, tmp_path):
    edits = tmp_path / "edits"
    shutil.copytree(looked.pictures, edits)
    lost = min(edits.glob("*.png"))
    lost.unlink()
    looked.model, looked.options["model_family"] = "owner/name", "flux"
    looked.options["model_flavour"] = "kontext"
    looked.options["data_backend_config"] = [
        {"id": "a", "instance_data_dir": str(looked.pictures), "conditioning_data": "c"},
        {
            "id": "c",
            "dataset_type": "conditioning",
            "conditioning_type": "reference_loose",
            "instance_data_dir": str(edits),
        },
    ]
    told = json.dumps(looked.found())
    assert lost.name in told or lost.stem in told
