"""Method `scratch`: random weights from a configuration, and a tokenizer from the rows where there is none."""

import json
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer

from tests.methods import document, find, load, logits, stock_model, train
from tests.tiny import KINDS, PLAIN_TEXTS
from trainyard.trainer.failures import ConfigError, ModelError
from trainyard.trainer.text import model as models
from trainyard.trainer.text.data.material import Row
from trainyard.trainer.text.settings import read_settings

ROWS = [Row("rows.jsonl", n, "text", text) for n, text in enumerate(PLAIN_TEXTS, 1)]
CHAT = [{"role": "user", "content": "Grüße, 你好"}, {"role": "assistant", "content": "hello"}]


@pytest.fixture
def bare(tiny, tmp_path):
    """A folder with nothing but a configuration, as of a larger model."""
    folder = tmp_path / "bare"
    folder.mkdir()
    config = json.loads((tiny("llama") / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 400, "eos_token_id": 128_001}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_from_nothing_trains_and_loads_back(tiny, tmp_path, kind):
    trained = train(document(tiny(kind), method="scratch"), tmp_path)
    assert trained.losses[-1] < trained.losses[0]
    assert not torch.equal(trained.before, logits(stock_model(tiny(kind)))), "the weights of the folder are not used"
    assert torch.equal(logits(stock_model(trained.result(tmp_path / "final"))), trained.after)


def test_the_seed_decides_the_weights_and_nothing_else_does(tiny, tmp_path):
    def drawn(seed):
        settings = read_settings(document(tiny("llama"), method="scratch", tuning={"seed": seed}))
        state = torch.get_rng_state()
        model = models.load_model(find(document(tiny("llama"), method="scratch"), tmp_path), settings, None)
        assert torch.equal(state, torch.get_rng_state()), "the run's own generator stays where it is"
        return torch.cat([p.flatten() for p in model.parameters()])

    torch.manual_seed(1)
    first = drawn(42)
    torch.manual_seed(2)
    assert torch.equal(first, drawn(42)) and not torch.equal(first, drawn(43))


def test_a_tokenizer_is_trained_on_the_rows_where_the_model_has_none(bare, tmp_path):
    request = document(bare, method="scratch")
    source, settings = find(request, tmp_path), read_settings(request)
    tokenizer = models.load_tokenizer(source, settings, [*ROWS, Row("rows.jsonl", 99, "messages", CHAT)])
    assert len(tokenizer) <= 400
    assert tokenizer.decode(tokenizer("Grüße, 你好 🚂")["input_ids"]) == "Grüße, 你好 🚂", "it knows every byte"
    assert len(tokenizer(PLAIN_TEXTS[0])["input_ids"]) < len(PLAIN_TEXTS[0]) / 2, "it learned from the rows"
    model = models.load_model(source, settings, None, tokenizer=tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id and model.config.pad_token_id == tokenizer.pad_token_id
    models.save_result(model, source, settings, tmp_path / "final")
    tokenizer.save_pretrained(tmp_path / "final")
    again = AutoTokenizer.from_pretrained(tmp_path / "final")
    assert again(PLAIN_TEXTS[1])["input_ids"] == tokenizer(PLAIN_TEXTS[1])["input_ids"]
    assert AutoConfig.from_pretrained(tmp_path / "final").eos_token_id == again.eos_token_id
    resumed = models.load_tokenizer(source, settings, (), tmp_path / "final")
    assert resumed.get_vocab() == tokenizer.get_vocab(), "a run that goes on does not train another one"


def test_a_tokenizer_that_is_there_is_kept(tiny, tmp_path):
    request = document(tiny("llama"), method="scratch")
    tokenizer = models.load_tokenizer(find(request, tmp_path), read_settings(request), ROWS)
    assert tokenizer.eos_token == "<|end|>"


def test_a_vocabulary_without_room_for_all_bytes_is_refused(bare, tmp_path):
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config | {"vocab_size": 100}))
    request = document(bare, method="scratch")
    with pytest.raises(ConfigError, match="vocab_size of 100; the tokenizer that is trained for it needs 260 at least"):
        models.load_tokenizer(find(request, tmp_path), read_settings(request), ROWS)


def test_any_other_method_needs_weights(bare, tmp_path):
    with pytest.raises(ModelError, match=r"holds no weights .*; method: scratch needs none"):
        load(document(bare), tmp_path)


def test_a_configuration_of_no_language_model_is_refused(tiny, tmp_path):
    shutil.copytree(tiny("llama"), tmp_path / "vision")
    (tmp_path / "vision" / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(ModelError, match="no language model can be made of its configuration"):
        load(document(tmp_path / "vision", method="scratch"), tmp_path)
