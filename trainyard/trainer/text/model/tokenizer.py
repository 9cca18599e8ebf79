"""The tokenizer and the configuration of a model, and what must hold between them and the data."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoTokenizer

from trainyard.trainer.failures import ConfigError, ModelError, from_source
from trainyard.trainer.text.data.material import Row
from trainyard.trainer.text.model.scratch import texts_of, train_tokenizer
from trainyard.trainer.text.model.source import Source
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.tokens.tokenise import Example, Examples

LONGEST_BY_DEFAULT = 2048
#: How transformers begins to say it.
_NO_TOKENIZER = "instantiate the backend tokenizer"


def load_tokenizer(
    source: Source, settings: Settings | None = None, rows: Iterable[Row] = (), resumed: Path | None = None
) -> Any:
    """The fast tokenizer, with a padding token.

    With method `scratch` a model that has none gets one trained on `rows`, which a run that goes on takes from its
    checkpoint (`resumed`).
    """
    folder = source.tokenizer_folder
    if folder is None and settings is not None and settings.method == "scratch":
        if resumed is None:
            return train_tokenizer(texts_of(rows), load_config(source))
        folder = resumed
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder or source.folder, use_fast=True, trust_remote_code=False)
    except Exception as e:
        if isinstance(e, ValueError) and _NO_TOKENIZER in str(e):
            raise ModelError(
                f"{source.where}: {folder or source.folder} has no tokenizer that can be read: tokenizer.json and "
                "tokenizer_config.json belong there; copy them from where the model came from, or write them with "
                "tokenizer.save_pretrained"
            ) from e
        broken = _broken(folder or source.folder)
        if broken is not None:
            raise ModelError(f"{source.where}: {broken} is no JSON that can be read; fetch or copy it again") from e
        raise from_source(e, f"{source.where}: its tokenizer") from e
    if not tokenizer.is_fast:
        raise ModelError(f"{source.where}: it has no fast tokenizer (tokenizer.json), which training needs")
    if tokenizer.eos_token is None:
        raise ModelError(
            f"{source.where}: its tokenizer has no end-of-text token; name one as eos_token in tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(source: Source) -> Any:
    """What the model says of itself, without its weights."""
    try:
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
    except Exception as e:
        raise from_source(e, source.where) from e
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelError(
            f"{source.where}: no language model can be made of its configuration: transformers trains no model_type "
            f"{config.model_type!r} to go on with a text"
        )
    return config


def _broken(folder: Path) -> Path | None:
    """The first of the model's JSON files that is none."""
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return path
    return None


def longest(config: Any, settings: Settings) -> int:
    """Tokens of the longest row: as asked, else the model's own length, at most 2048."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or LONGEST_BY_DEFAULT
    asked = settings.max_sequence_length
    if asked is not None and asked > positions:
        raise ConfigError(
            f"tuning_parameters.max_sequence_length: {asked} is more than the model's {positions} positions; "
            f"{positions} would run"
        )
    return asked or min(positions, LONGEST_BY_DEFAULT)


def vocabulary(model: Any) -> int:
    """How many tokens the model knows; what an adapter wraps around its embeddings has another shape."""
    embeddings = model.get_input_embeddings().modules()
    return next(int(m.num_embeddings) for m in embeddings if isinstance(m, torch.nn.Embedding))


def check_vocabulary(source: Source, model: Any, examples: Sequence[Example]) -> None:
    """Raises `ModelError` when the tokenizer knows tokens that the model does not."""
    known = vocabulary(model)
    largest = examples.largest if isinstance(examples, Examples) else max(int(e.ids.max()) for e in examples)
    if largest >= known:
        raise ModelError(
            f"{source.where}: its tokenizer gave token {largest}, the model has {known}; they do not belong together"
        )
