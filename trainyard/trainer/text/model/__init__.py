"""Models for the text loop: found, loaded, made trainable, written.

The loop imports this package under one name: `from trainyard.trainer.text import model as models`.
"""

import warnings

from transformers.utils import logging as transformers_logging

from trainyard.trainer.text.model.adapters import NAME, adapter_kind, after_step, before_step, virtual_tokens
from trainyard.trainer.text.model.base import (
    check_shapes,
    dress,
    load_model,
    parameter_groups,
    parameters,
    stored_dtype,
    trainable,
)
from trainyard.trainer.text.model.checks import check_machine
from trainyard.trainer.text.model.peft_config import make_config
from trainyard.trainer.text.model.precision import computed_in
from trainyard.trainer.text.model.saving import load_adapter, save_for_resume, save_model, save_result
from trainyard.trainer.text.model.source import Source, find, find_for, remote
from trainyard.trainer.text.model.tokenizer import check_vocabulary, load_config, load_tokenizer, longest, vocabulary

__all__ = [
    "NAME",
    "Source",
    "adapter_kind",
    "after_step",
    "before_step",
    "check_machine",
    "check_shapes",
    "check_vocabulary",
    "computed_in",
    "dress",
    "find",
    "find_for",
    "load_adapter",
    "load_config",
    "load_model",
    "load_tokenizer",
    "longest",
    "make_config",
    "parameter_groups",
    "parameters",
    "quiet",
    "remote",
    "save_for_resume",
    "save_model",
    "save_result",
    "stored_dtype",
    "trainable",
    "virtual_tokens",
    "vocabulary",
]


def quiet() -> None:
    """transformers logs through our masked handler and draws no bars; what peft asks it by an old name is not told."""
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    transformers_logging.disable_progress_bar()
