"""The base model and its tokenizer, from a local folder or a hub; the adapter on top of it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from trainyard.trainer.failures import ConfigError, ModelError, from_source
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.text.settings import Settings, local_path
from trainyard.trainer.text.tokens import Example

LONGEST_BY_DEFAULT = 2048
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
log = logging.getLogger("trainyard.trainer")


@frozen
class Source:
    """Where the base model comes from."""

    name: str
    folder: Path | None
    revision: str | None
    token: str | None

    @classmethod
    def of(cls, request: Mapping[str, Any], secrets: Secrets) -> "Source":
        """Raises `ModelError` when a folder is named and holds no model, `ConfigError` for a URI that can't be read."""
        base = request["base_model"]
        name = str(base["model_name"])
        path = local_path(name)
        if path is None:
            raise ConfigError(
                f"base_model.model_name: {name!r} is not in this version; give a hub id or a local folder"
            )
        if name.startswith("file://") or path.is_absolute() or path.is_dir():
            _look(path)
            return cls(str(path), path, None, None)
        token = secrets.get("base_model.huggingface_token", "base_model.auth_token")
        return cls(name, None, str(base.get("revision") or "main"), token)

    @property
    def where(self) -> str:
        """For messages."""
        return f"base_model.model_name: {self.name}" + (f" (revision {self.revision})" if self.revision else "")

    def arguments(self) -> dict[str, Any]:
        """What every `from_pretrained` gets; code that comes with a model is never run."""
        hub = {} if self.folder else {"revision": self.revision, "token": self.token}
        return {"trust_remote_code": False, **hub}


def quiet() -> None:
    """transformers logs through our masked handler and draws no bars."""
    transformers_logging.disable_default_handler()
    transformers_logging.enable_propagation()
    transformers_logging.disable_progress_bar()


def load_tokenizer(source: Source) -> Any:
    """The fast tokenizer, with a padding token."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.name, use_fast=True, **source.arguments())
    except Exception as e:
        raise from_source(e, f"{source.where}: its tokenizer") from e
    if not tokenizer.is_fast:
        raise ModelError(f"{source.where}: it has no fast tokenizer (tokenizer.json), which training needs")
    if tokenizer.eos_token is None:
        raise ModelError(f"{source.where}: its tokenizer has no end-of-text token (eos_token)")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(source: Source) -> Any:
    """What the model says of itself, without its weights."""
    try:
        return AutoConfig.from_pretrained(source.name, **source.arguments())
    except Exception as e:
        raise from_source(e, source.where) from e


def longest(config: Any, settings: Settings) -> int:
    """Tokens of the longest row: as asked, else the model's own length, at most 2048."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or LONGEST_BY_DEFAULT
    asked = settings.max_sequence_length
    if asked is not None and asked > positions:
        raise ConfigError(
            f"tuning_parameters.max_sequence_length: {asked} is more than the model's {positions} positions"
        )
    return asked or min(positions, LONGEST_BY_DEFAULT)


def load_model(source: Source, settings: Settings, resumed: Path | None) -> Any:
    """The model ready to train. What is trained is held in fp32; a frozen base in the precision that was asked for.

    A full model goes on from `resumed`; an adapter is loaded by the caller, onto the base.
    """
    full = settings.method == "full"
    start = resumed if full and resumed else source.name
    arguments = source.arguments() if start == source.name else {"trust_remote_code": False}
    dtype = torch.float32 if full else _DTYPES[settings.precision]
    try:
        model = AutoModelForCausalLM.from_pretrained(start, dtype=dtype, low_cpu_mem_usage=True, **arguments)
    except Exception as e:
        raise from_source(e, source.where) from e
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model if full else _with_adapter(model, settings)


def stored_dtype(config: Any) -> torch.dtype:
    """The precision of the base model's own files, in which a full result is written again."""
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32


def check_vocabulary(source: Source, model: Any, examples: Sequence[Example]) -> None:
    """Raises `ModelError` when the tokenizer knows tokens that the model does not."""
    known = model.get_input_embeddings().num_embeddings
    largest = max(int(e.ids.max()) for e in examples)
    if largest >= known:
        raise ModelError(
            f"{source.where}: its tokenizer gave token {largest}, the model has {known}; they do not belong together"
        )


def trainable(model: Any) -> int:
    """How many parameters are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms are not decayed."""
    named = [p for p in model.parameters() if p.requires_grad]
    groups = [(weight_decay, [p for p in named if p.ndim > 1]), (0.0, [p for p in named if p.ndim <= 1])]
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in groups if parameters]


def _with_adapter(model: Any, settings: Settings) -> Any:
    targets = list(settings.target_modules) or "all-linear"
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as e:
        raise ConfigError(
            f"customization.target_modules: {list(settings.target_modules)} does not fit the model: {e}"
        ) from e


def _look(folder: Path) -> None:
    where = f"base_model.model_name: {folder}"
    if not folder.is_dir():
        raise ModelError(f"{where}: there is no such folder")
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise ModelError(
            f"{where}: it holds an adapter, not a model; training on from an adapter is not in this version"
        )
    if not (folder / "config.json").exists():
        raise ModelError(f"{where}: it holds no model (config.json is missing)")
