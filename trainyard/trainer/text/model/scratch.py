"""Models from nothing: random weights from a configuration, and a tokenizer trained on the rows."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as kinds
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from trainyard.trainer.failures import ConfigError, ModelError, from_source
from trainyard.trainer.text.data.material import Row

_SPECIAL = ("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>")
_BYTES = 256


def texts_of(rows: Iterable[Row]) -> Iterator[str]:
    """All that is written in rows of any shape."""
    for row in rows:
        yield from _strings(row.value)


def train_tokenizer(texts: Iterable[str], config: Any) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`, with at most the tokens that the configuration has room for.

    It knows the end of a text, padding, and ChatML's marks. Raises `ConfigError` where there is no room for all bytes.
    """
    most, least = int(config.get_text_config().vocab_size), _BYTES + len(_SPECIAL)
    if most < least:
        raise ConfigError(
            f"base_model.model_name: its configuration has a vocab_size of {most}; the tokenizer that is trained for "
            f"it needs {least} at least"
        )
    made = Tokenizer(kinds.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token=_SPECIAL[0],
        pad_token=_SPECIAL[1],
        extra_special_tokens=list(_SPECIAL[2:]),
        **({"model_max_length": length} if length else {}),
    )


def random_model(config: Any, tokenizer: Any, seed: int, where: str) -> Any:
    """The model with weights drawn by `seed`, in fp32; the generators of the run stay where they are.

    Where a `tokenizer` is given the model takes its numbers of special tokens.
    """
    if tokenizer is not None:
        for name in ("eos_token_id", "pad_token_id", "bos_token_id"):
            setattr(config.get_text_config(), name, getattr(tokenizer, name))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    except ValueError as e:
        raise ModelError(f"{where}: no language model can be made of its configuration: {e}") from e
    except Exception as e:
        raise from_source(e, where) from e


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings(value.get("content"))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
