"""What a deep validation finds before anything is trained or loaded, in this process: each with its field's path."""

import json
import shutil

import pytest
import torch

from tests.examined import Examined
from tests.methods import document, train
from tests.tiny import PLAIN_TEXTS
from trainyard.trainer.preflight import Asked, examined
from trainyard.trainer.secrets import Secrets

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")


class Looked(Examined):
    """Of a language model."""

    def __init__(self, folder, model):
        self.data = folder / "rows.jsonl"
        self.rows(json.dumps({"text": text}) for text in PLAIN_TEXTS)
        self.request = document(model) | {"datasets": [{"source": str(self.data), "format": "jsonl"}]}
        self.options = {"cache_dir": str(folder / "cache")}
        self.folder = folder

    def rows(self, lines):
        self.data.write_text("".join(line + "\n" for line in lines))

    def found(self):
        spec = {"engine": "text", "request": self.request, "options": self.options, "devices": [], "threads": 1}
        threads = torch.get_num_threads()
        try:
            found, self.code = examined(Asked(spec, Secrets()))
        finally:
            torch.set_num_threads(threads)
        return found


@pytest.fixture
def looked(tmp_path, tiny):
    return Looked(tmp_path, tiny("llama"))


@pytest.fixture
def adapter(tiny, tmp_path):
    trained = train(document(tiny("llama"), target_modules=["q_proj", "v_proj"]), tmp_path, steps=1)
    return trained.result(tmp_path / "adapter")


@pytest.fixture
def copy(tiny, tmp_path):
    return shutil.copytree(tiny("llama"), tmp_path / "copy")


def rewritten(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_adapter_file_that_was_cut_short(looked, adapter):
    with (adapter / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(3000)
    looked.request["base_model"]["model_name"] = str(adapter)
    looked.request["customization"] = {"method": "adapter", "precision": "fp32"}
    assert "adapter_model.safetensors is cut short" in looked.errors["base_model.model_name"]
    assert looked.reason == "model"


def test_an_adapter_of_another_width_and_one_of_another_rank(looked, adapter, tiny, copy):
    looked.request["base_model"]["model_name"] = str(adapter)
    looked.request["customization"] = {"method": "adapter", "precision": "fp32"}
    assert looked.found()["ok"] is True
    rewritten(adapter / "adapter_config.json", r=8)
    message = looked.errors["base_model.model_name"]
    assert "does not fit the base: it has" in message and "([4, 32] there, [8, 32] by the base)" in message


def test_a_configuration_that_is_not_that_of_the_weights(looked, copy):
    rewritten(copy / "config.json", hidden_size=64)
    looked.request["base_model"]["model_name"] = str(copy)
    message = looked.errors["base_model.model_name"]
    assert looked.reason == "model" and "config.json does not fit its weights: " in message
    assert "32] in the files and would be " in message and "give the config.json that the weights came with" in message
    looked.request["customization"]["method"] = "scratch"
    assert looked.found()["ok"] is True, "weights that are not used may be of any shape"


@pytest.mark.slow
def test_the_same_fits_for_every_architecture_that_is_tested(looked, tiny):
    from tests.tiny import KINDS

    for kind in KINDS:
        looked.request["base_model"]["model_name"] = str(tiny(kind))
        assert looked.found()["ok"] is True, kind


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "arrow", "nemo"])
def test_a_slice_of_a_format_that_has_none(looked, form):
    looked.request["datasets"][0] |= {"format": form, "split": "train[:50%]"}
    assert "is a slice, which only format hf has" in looked.errors["datasets[0].split"]


def test_all_that_does_not_go_together_at_once(looked):
    looked.request["tuning_parameters"] |= {"objective": "kto", "lr_scheduler": "zigzag", "micro_batch_size": 3}
    looked.request["extra_parameters"]["strategy"] = "zero"
    paths = {f"tuning_parameters.{name}" for name in ("objective", "lr_scheduler", "micro_batch_size")}
    assert looked.errors.keys() == paths | {"extra_parameters.strategy"}


@pytest.mark.parametrize(
    ("tuning", "path", "words"),
    [
        ({"max_steps": 1, "warmup_steps": 1}, "warmup_steps", "the only step has a learning rate of 0"),
        ({"max_steps": 1, "warmup_ratio": 0.1}, "warmup_ratio", "the only step has a learning rate of 0"),
        ({"max_steps": 5, "warmup_steps": 9}, "warmup_steps", "all 5 steps warm up"),
        ({"max_sequence_length": 16}, "max_sequence_length", "are longer than 16 tokens and are cut"),
    ],
)
def test_warnings_have_the_path_of_what_they_are_about(looked, tuning, path, words):
    looked.request["tuning_parameters"] |= tuning
    assert words in looked.warnings[f"tuning_parameters.{path}"]


def test_warnings_of_rows_targets_memory_and_template_have_theirs(looked):
    looked.rows([json.dumps({"text": "fine"}), json.dumps({"text": " "}), "{broken"])
    looked.request["extra_parameters"]["on_bad_row"] = "skip"
    looked.request["customization"]["target_modules"] = ["q_proj", "nothing"]
    looked.request["resources"] = {"memory_gb": 0.01}
    warnings = looked.warnings
    assert warnings.keys() == {"datasets", "customization.target_modules", "resources.memory_gb"}
    looked.rows([json.dumps({"messages": [{"role": "assistant", "content": "x"}]})])
    looked.request["resources"] = {}
    assert "no chat template" in looked.warnings["base_model.model_name"]


def test_a_warm_up_that_fits_is_nothing_to_say(looked):
    looked.request["tuning_parameters"] |= {"max_steps": 10, "warmup_ratio": 0.5}
    assert looked.warnings == {}


def test_one_row_of_which_a_share_is_to_be_held_out(looked):
    looked.rows([json.dumps({"text": "only one"})])
    looked.request["tuning_parameters"]["eval_ratio"] = 0.1
    assert "0.1 of 1 row is none" in looked.warnings["tuning_parameters.eval_ratio"]
