"""What is no plain LoRA, over all architectures but the one that the other tests use: stock loaders, equal logits."""

import pytest
import torch

from tests.methods import apart, document, load, logits, stock_adapter, stock_model, train
from tests.tiny import KINDS
from trainyard.trainer.failures import ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]
OTHERS = [kind for kind in KINDS if kind != "llama"]
CONFIGS = {
    "dora": {"use_dora": True},
    "IA3": {"peft_type": "IA3"},
    "OFT": {"peft_type": "OFT", "oft_block_size": 8},
    "PROMPT_TUNING": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4},
    "PREFIX_TUNING": {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4},
}


#: GPT-2's layers are `Conv1D`, which peft's OFT does not know.
PAIRS = [(kind, name) for kind in OTHERS for name in CONFIGS if (kind, name) != ("gpt2", "OFT")]


@pytest.mark.parametrize(("kind", "name"), PAIRS)
def test_an_adapter_of_any_type_gives_the_same_logits_in_the_stock_loader(tiny, tmp_path, kind, name):
    trained = train(document(tiny(kind), method="peft", peft={"config": CONFIGS[name]}), tmp_path, steps=2)
    assert apart(trained.after, trained.before) > 1e-4
    found = logits(stock_adapter(tiny(kind), trained.result(tmp_path / "final")))
    assert apart(found, trained.after) < 1e-6


def test_a_type_that_does_not_know_the_models_layers_is_refused(tiny, tmp_path):
    with pytest.raises(ConfigError, match=r"customization\.peft\.config: OFT does not fit the model: .*Conv1D"):
        load(document(tiny("gpt2"), method="peft", peft={"config": CONFIGS["OFT"]}), tmp_path)


@pytest.mark.parametrize("kind", OTHERS)
def test_an_adapter_that_was_gone_on_with_does_too_and_so_does_what_it_is_merged_to(tiny, tmp_path, kind):
    first = train(document(tiny(kind)), tmp_path, steps=2)
    begun = first.result(tmp_path / "adapter")
    trained = train(document(begun, method="adapter"), tmp_path, steps=2)
    assert torch.equal(trained.before, first.after) and apart(trained.after, trained.before) > 1e-4
    assert torch.equal(logits(stock_adapter(tiny(kind), trained.result(tmp_path / "final"))), trained.after)
    merged = train(document(begun, method="adapter", merge=True), tmp_path, steps=1)
    assert apart(logits(stock_model(merged.result(tmp_path / "merged"))), merged.after) < 1e-5
