"""Models that are not whole: each is named with its file and what is wrong, before it is trained."""

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.methods import document, find, load
from trainyard.trainer.failures import ConfigError, ModelError
from trainyard.trainer.text import model as models
from trainyard.trainer.text.model.source import Source, damage, named
from trainyard.trainer.text.settings import read_settings


@pytest.fixture
def llama(tiny, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(tiny("llama"), tmp_path / "llama")


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_file_that_is_cut_short_is_named_with_its_bytes(llama, tmp_path):
    path = llama / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(ModelError, match=rf"{path} is cut short: it has {len(whole) - 1000:,} of {len(whole):,} bytes"):
        load(document(llama), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "its header does not fit into its 0 bytes"),
        (b"nothing of the kind", "its header does not fit into its 19 bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 9\n", "is a pointer of Git LFS"),
        ((5).to_bytes(8, "little") + b"{no}}", "its header can't be read"),
    ],
)
def test_what_is_no_safetensors_file_says_so(tmp_path, content, said):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert said in damage(path)


def test_whole_files_are_whole(tiny):
    assert damage(tiny("llama") / "model.safetensors") is None


def test_a_missing_shard_is_named(llama, tmp_path):
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        ModelError, match=r"model-00002-of-00002\.safetensors is missing, which model\.safetensors\.index"
    ):
        load(document(llama), tmp_path)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_that_are_not_in_the_files_are_never_made_up(llama, tmp_path, method):
    weights = load_file(llama / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, llama / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"its files lack model\.layers\.1\.mlp\.up_proj\.weight"):
        load(document(llama, method=method), tmp_path)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_of_another_size_are_refused_with_both_shapes(llama, tmp_path, method):
    change(llama, "config.json", intermediate_size=64)
    said = r"llama: its config\.json does not fit its weights: model\.layers\.0\.mlp\.down_proj\.weight is \[32, \d+\]"
    with pytest.raises(ModelError, match=said + r" in the files and would be \[32, 64\] by"):
        load(document(llama, method=method), tmp_path)


@pytest.mark.parametrize("lost", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_folder_without_a_tokenizer_says_which_files_it_lacks(llama, tmp_path, lost):
    for name in lost:
        (llama / name).unlink()
    with pytest.raises(ModelError, match=r"llama has no tokenizer that can be read: tokenizer\.json and tokenizer"):
        models.load_tokenizer(find(document(llama), tmp_path))


def test_a_tokenizer_without_an_end_of_text_says_where_to_name_one(llama, tmp_path):
    path = llama / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if k != "eos_token"}))
    with pytest.raises(ModelError, match=r"has no end-of-text token; name one as eos_token in tokenizer_config\.json"):
        models.load_tokenizer(find(document(llama), tmp_path))


def test_a_tokenizer_without_padding_pads_with_its_end_of_text(llama, tmp_path):
    path = llama / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if k != "pad_token"}))
    tokenizer = models.load_tokenizer(find(document(llama), tmp_path))
    assert tokenizer.pad_token == tokenizer.eos_token == "<|end|>"


def test_a_folder_without_a_model_says_what_is_missing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"empty: it holds no model \(config\.json is missing\)"):
        find(document(tmp_path / "empty"), tmp_path)
    with pytest.raises(ModelError, match="there is no such folder"):
        find(document(tmp_path / "nowhere"), tmp_path)


def test_more_tokens_than_the_model_has_positions_are_refused(tiny, tmp_path):
    request = document(tiny("llama"), tuning={"max_sequence_length": 512})
    with pytest.raises(ConfigError, match=r"max_sequence_length: 512 is more than .* 256 positions; 256 would run"):
        models.longest(models.load_config(find(request, tmp_path)), read_settings(request))


@pytest.mark.parametrize(
    ("base", "name", "revision"),
    [
        ({"model_name": "org/model"}, "org/model", "main"),
        ({"model_name": "org/model", "revision": "v1"}, "org/model", "v1"),
        ({"model_name": "hf://org/model@v2", "revision": "v1"}, "org/model", "v2"),
        ({"model_name": "s3://bucket/models/one"}, "s3://bucket/models/one", None),
    ],
)
def test_a_result_names_its_base_as_the_stock_loaders_do(tmp_path, base, name, revision):
    assert named(base, tmp_path) == Source(name, tmp_path, revision)


def test_a_folder_is_named_by_its_path(tmp_path):
    assert named({"model_name": f"file://{tmp_path}", "revision": "v1"}, tmp_path) == Source(str(tmp_path), tmp_path)
