"""The model ready to train: base, quantised or not, with its adapter or from nothing."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from trainyard.trainer.failures import ConfigError, ModelError, from_source
from trainyard.trainer.text.model.adapters import NAME, Warn, attach
from trainyard.trainer.text.model.dropout import quicken
from trainyard.trainer.text.model.layers import train_only
from trainyard.trainer.text.model.merging import check_merge
from trainyard.trainer.text.model.peft_config import AT
from trainyard.trainer.text.model.precision import computed_in
from trainyard.trainer.text.model.quantised import prepare, quantisation
from trainyard.trainer.text.model.scratch import random_model
from trainyard.trainer.text.model.source import CONFIG, Source, check_files, shapes
from trainyard.trainer.text.model.tokenizer import load_config
from trainyard.trainer.text.settings import Settings

log = logging.getLogger("trainyard.trainer")
_NAMED = 3


def load_model(
    source: Source,
    settings: Settings,
    resumed: Path | None,
    *,
    device: torch.device = torch.device("cpu"),
    tokenizer: Any = None,
    steps: int | None = None,
    warn: Warn = log.warning,
) -> Any:
    """The model ready to train, on `device`. What is trained is held in fp32; a frozen base in what is computed in.

    A whole model goes on from `resumed`; an adapter is loaded by `load_adapter`, onto the base. `tokenizer` is what a
    model from nothing takes its special tokens from, `steps` what AdaLoRA plans by.
    """
    if settings.method == "scratch" and resumed is None:
        model = random_model(load_config(source), tokenizer, settings.seed, source.where).to(device)
    else:
        model = _loaded(source, settings, resumed, device)
    return dress(model, source, settings, steps=steps, warn=warn)


def dress(model: Any, source: Source, settings: Settings, *, steps: int | None = None, warn: Warn = log.warning) -> Any:
    """A bare base, on a device or on meta, made ready: what is trained is trainable, the rest is frozen."""
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if settings.adapts:
        # Of prepare_model_for_kbit_training nothing else is needed: get_peft_model freezes the base, checkpointing
        # that is not reentrant needs no gradient of the inputs, and norms stay as they are beside any adapter.
        model = attach(model, source, settings, steps, warn)
        if not trainable(model):
            kind = model.peft_config[NAME].peft_type.value
            raise ConfigError(f"{AT}: {kind} found nothing in this model to train; name other target_modules")
        if settings.merge:
            check_merge(model)
    elif settings.trainable_layers:
        train_only(model, settings.trainable_layers)
    quicken(model)
    return model


def check_shapes(model: Any, source: Source) -> None:
    """Raises `ModelError` where tensors of the files are not as the configuration says; by the files' headers alone.

    `model` may lie on meta. What the library renames or puts together when it loads is passed over.
    """
    if getattr(model.config, "quantization_config", None) is not None or not [*source.folder.glob("*.safetensors")]:
        return
    check_files(source.folder, source.where)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    front = f"{model.base_model_prefix}."
    for name, there in sorted(shapes(source.folder).items()):
        own = next((n for n in (name, front + name, name.removeprefix(front)) if n in wanted), None)
        if own is not None and wanted[own] != there:
            raise _other_shapes(source, source.folder, name, there, wanted[own])


def _other_shapes(source: Source, folder: Path, name: str, there: Sequence[int], wanted: Sequence[int]) -> ModelError:
    return ModelError(
        f"{source.where}: its {CONFIG} does not fit its weights: {name} is {list(there)} in the files and would be "
        f"{list(wanted)} by {folder / CONFIG}; give the {CONFIG} that the weights came with"
    )


def stored_dtype(config: Any) -> torch.dtype:
    """The precision of the base model's own files, in which a whole result is written again."""
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32


def trainable(model: Any) -> int:
    """How many parameters are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def parameters(model: Any) -> int:
    """How many parameters there are; those in 4 bits lie two in a byte and are counted as they are unpacked."""
    states = ((p, getattr(p, "quant_state", None)) for p in model.parameters())
    return sum(p.numel() if state is None else state.shape.numel() for p, state in states)


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms are not decayed."""
    named = [p for p in model.parameters() if p.requires_grad]
    groups = [(weight_decay, [p for p in named if p.ndim > 1]), (0.0, [p for p in named if p.ndim <= 1])]
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in groups if parameters]


def _loaded(source: Source, settings: Settings, resumed: Path | None, device: torch.device) -> Any:
    half = computed_in(settings, device)
    folder = source.folder if settings.adapts or resumed is None else resumed
    arguments: dict[str, Any] = {"dtype": half or torch.float32 if settings.adapts else torch.float32}
    if settings.adapts:
        arguments["quantization_config"] = quantisation(settings, load_config(source), half)
    if device.type != "cpu" or arguments.get("quantization_config"):
        arguments["device_map"] = {"": device}
    check_files(folder, source.where)
    try:
        model, told = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True, **arguments
        )
    except Exception as e:
        raise from_source(e, f"{source.where}: {folder}") from e
    if told["mismatched_keys"]:
        raise _other_shapes(source, folder, *min(told["mismatched_keys"], key=lambda one: str(one[0])))
    if told["missing_keys"]:
        names = sorted(told["missing_keys"])
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise ModelError(f"{source.where}: its files lack {', '.join(names[:_NAMED])}{more}")
    if told["unexpected_keys"]:
        names = sorted(told["unexpected_keys"])
        log.warning("%s: %d tensors of its files are not used: %s", source.where, len(names), ", ".join(names[:_NAMED]))
    if arguments.get("quantization_config"):
        prepare(model)
    return model
