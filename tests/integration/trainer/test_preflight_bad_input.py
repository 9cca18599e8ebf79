"""Bad input, one kind after the other: each is found before training, and said with what is wrong and where."""

import json
import shutil

import pytest

from tests.integration.trainer.test_preflight_finds import Looked
from tests.tiny import PLAIN_TEXTS

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
GOOD = json.dumps({"text": PLAIN_TEXTS[0]}).encode() + b"\n"


@pytest.fixture
def looked(tmp_path, tiny):
    return Looked(tmp_path, tiny("llama"))


@pytest.fixture
def copy(tiny, tmp_path, looked):
    folder = shutil.copytree(tiny("llama"), tmp_path / "copy")
    looked.request["base_model"]["model_name"] = str(folder)
    return folder


DATA = {
    "empty": (b"", "rows.jsonl: is empty"),
    "without a row": (b"\n \n", "rows.jsonl: has no row"),
    "not UTF-8": (GOOD + b'{"text": "\xff"}\n', "rows.jsonl:2: is not UTF-8 (byte 11); save the file as UTF-8"),
    "UTF-16": ('{"text": "x"}'.encode("utf-16"), "rows.jsonl:1: is not UTF-8"),
    "packed": (b"\x1f\x8b\x08\x00\xff\xfe", "rows.jsonl:1: is gzip; unpack the file"),
    "a long line": (GOOD + b'{"text": "' + bytes(65 << 20) + b'"}\n', "rows.jsonl:2: is a line of more than 64 MiB"),
    "no target": (b'{"prompt": "x", "completion": ""}\n', "no row has a target to learn"),
    "longer than the context": (
        json.dumps({"prompt": "long " * 400, "completion": "x"}).encode() + b"\n",
        "rows.jsonl:1: no row has a target to learn within 256 tokens; raise tuning_parameters.max_sequence_length",
    ),
}


@pytest.mark.parametrize(("content", "words"), DATA.values(), ids=DATA)
def test_rows_that_can_not_be_trained_on(looked, content, words):
    looked.data.write_bytes(content)
    assert words in looked.errors["datasets[0].source"] and looked.reason == "data"


def test_files_of_one_data_set_with_other_columns(looked, tmp_path):
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "a.jsonl").write_bytes(GOOD)
    (tmp_path / "many" / "b.jsonl").write_text('{"prompt": "x", "completion": "y"}\n')
    looked.request["datasets"].append({"source": str(tmp_path / "many"), "format": "jsonl"})
    said = looked.errors["datasets[1].source"]
    assert "many/b.jsonl: has other columns than" in said and "text: a column there, none here" in said


def test_targets_that_match_nothing_and_a_batch_that_does_not_come_out_even(looked):
    looked.request["customization"]["target_modules"] = ["q_prj"]
    assert "'q_prj' is no module of the model; the nearest: q_proj" in looked.errors["customization.target_modules"]
    looked.request["tuning_parameters"] |= {"batch_size": 7, "micro_batch_size": 2}
    assert looked.errors == {"tuning_parameters.micro_batch_size": "2 must divide batch_size, which is 7"}


def changed(folder, name, **values):
    path = folder / name
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def cut(folder, length):
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(length)


MODEL = {
    "cut weights": (lambda f: cut(f, 30_000), "model.safetensors is cut short: it has 30,000 of "),
    "a cut header": (lambda f: cut(f, 5), "its header does not fit into its 5 bytes"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("tokenizer*")], "has no tokenizer that can be read"),
    "a cut tokenizer": (
        lambda f: (f / "tokenizer.json").write_text('{"version"'),
        "copy/tokenizer.json is no JSON that can be read",
    ),
    "no end of text": (lambda f: changed(f, "tokenizer_config.json", eos_token=None), "has no end-of-text token"),
    "a cut configuration": (lambda f: (f / "config.json").write_text('{"a"'), "config.json"),
    "no causal model": (lambda f: changed(f, "config.json", model_type="t5"), "trains no model_type 't5'"),
    "an unknown one": (lambda f: changed(f, "config.json", model_type="none_such"), "model type `none_such`"),
    "another vocabulary": (lambda f: changed(f, "config.json", vocab_size=100), "config.json does not fit its weights"),
    "nothing": (shutil.rmtree, "there is no such folder"),
}


@pytest.mark.parametrize(("spoil", "words"), MODEL.values(), ids=MODEL)
def test_a_model_that_can_not_be_trained(looked, copy, spoil, words):
    spoil(copy)
    assert words in looked.errors["base_model.model_name"] and looked.reason == "model"


def test_a_tokenizer_without_a_pad_token_pads_with_the_end_of_text(looked, copy):
    changed(copy, "tokenizer_config.json", pad_token=None)
    assert looked.found()["ok"] is True
