"""Adapters on a frozen base: attached anew, or gone on with; and what some of them need at each step."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import (
    PeftConfig,
    PeftModel,
    PeftType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from peft.utils import load_peft_weights
from transformers.pytorch_utils import Conv1D

from trainyard.trainer.failures import ConfigError, ModelError, first_line, from_source
from trainyard.trainer.text.model.layers import below, check_targets, linear_layers
from trainyard.trainer.text.model.peft_config import AT, is_converted, make_config
from trainyard.trainer.text.model.source import ADAPTER, ADAPTER_WEIGHTS, Source, check_files, shapes
from trainyard.trainer.text.settings import Settings

NAME = "default"
#: Of these a saved adapter lacks what its prompts were computed from.
_COMPUTED_PROMPTS = (PeftType.P_TUNING, PeftType.MULTITASK_PROMPT_TUNING)
_IN_FRONT = frozenset({"PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT"})
_NAMED = 3
Warn = Callable[[str], None]
log = logging.getLogger("trainyard.trainer")


def adapter_kind(source: Source) -> str | None:
    """The type of the adapter that is gone on with, in the library's words; None where there is none."""
    return None if source.adapter is None else str(_saved_config(source).peft_type.value)


def attach(model: Any, source: Source, settings: Settings, steps: int | None, warn: Warn) -> Any:
    """The model with the adapter of the document on it, whose parameters alone, and `trainable_layers`, are trained.

    `model` may lie on meta: then the adapter does too, and nothing is read. `steps` as for `make_config`.
    """
    if source.adapter is not None:
        config = _saved_config(source)
    else:
        config = make_config(settings, steps)
        _check_targets(model, config, settings, warn)
    added = _add_layers(model, config, settings, source, warn)
    config.base_model_name_or_path = None
    adapted = _wrapped(model, config)
    config.base_model_name_or_path, config.revision = source.name, source.revision
    if source.adapter is not None and not _is_blank(model):
        load(adapted, source.adapter, source.where, new=added)
    elif source.adapter is not None and (told := shapes(source.adapter, ADAPTER_WEIGHTS)):
        _check_fit(adapted, told, source.adapter, source.where, added)
    return adapted


def load(model: PeftModel, folder: Path, where: str, new: Sequence[str] = ()) -> None:
    """The weights of a saved adapter of the same kind into the one that is there; it may lack the modules `new`."""
    check_files(folder, where)
    present = get_peft_model_state_dict(model, save_embedding_layers=False)
    fresh = _fresh(present, new)
    try:
        weights = load_peft_weights(str(folder), device="cpu")
        _check_fit(model, {n: tuple(t.shape) for n, t in weights.items()}, folder, where, new)
        set_peft_model_state_dict(model, fresh | weights, NAME)
    except Exception as e:
        raise from_source(e, f"{where}: {folder}") from e


def _check_fit(
    model: PeftModel, saved: dict[str, tuple[int, ...]], folder: Path, where: str, new: Sequence[str]
) -> None:
    """Raises `ModelError` where the tensors of a saved adapter are not those of the one that is there."""
    present = get_peft_model_state_dict(model, save_embedding_layers=False)
    fresh = _fresh(present, new)
    odd = [n for n, size in saved.items() if n not in present or _other_size(model, size, present[n])]
    lacking = [n for n in present if n not in saved and n not in fresh]
    if odd or lacking:
        what = f"has {_some(odd)} that it can't take" if odd else f"lacks {_some(lacking)}"
        first = odd[0] if odd else ""
        sizes = f" ({list(saved[first])} there, {list(present[first].shape)} by the base)" if first in present else ""
        raise ModelError(f"{where}: {folder} does not fit the base: it {what}{sizes}")


def _fresh(present: dict[str, Any], new: Sequence[str]) -> dict[str, Any]:
    return {n: t for n, t in present.items() if any(n.rpartition(".")[0].endswith(module) for module in new)}


def virtual_tokens(model: Any) -> int:
    """Positions before the first token of a row in the model's logits: prompts that an adapter puts in front."""
    config = getattr(model, "peft_config", {}).get(NAME)
    return int(config.num_virtual_tokens) if config is not None and config.peft_type.value in _IN_FRONT else 0


def before_step(model: Any) -> None:
    """Add to the gradients what a type of adapter adds to the loss: AdaLoRA wants its vectors orthogonal.

    The library adds it only to a loss that the model computes itself. It depends on no data, so that it is the same in
    every process, and is added once a step: after the gradients were summed and unscaled, before they are clipped.
    """
    config = _adalora(model)
    if config is None or not config.orth_reg_weight:
        return
    found = [p for n, p in model.named_parameters() if f"lora_A.{NAME}" in n or f"lora_B.{NAME}" in n]
    with torch.enable_grad():
        parts = []
        for p in found:
            square = p @ p.T if p.shape[0] < p.shape[1] else p.T @ p
            parts.append(torch.linalg.matrix_norm(square - torch.eye(len(square), device=p.device)))
        (config.orth_reg_weight * torch.stack(parts).mean()).backward()


def after_step(model: Any, step: int) -> None:
    """Tell the adapter that optimizer step `step` was done, while its gradients are there: AdaLoRA ranks by them."""
    if _adalora(model) is not None:
        model.base_model.update_and_allocate(step)


def _adalora(model: Any) -> Any:
    config = getattr(model, "peft_config", {}).get(NAME)
    return config if config is not None and config.peft_type == PeftType.ADALORA else None


def _saved_config(source: Source) -> PeftConfig:
    try:
        config = PeftConfig.from_pretrained(str(source.adapter))
    except Exception as e:
        raise from_source(e, f"{source.where}: {ADAPTER}") from e
    if config.peft_type in _COMPUTED_PROMPTS or getattr(config, "prefix_projection", False):
        raise ModelError(
            f"{source.where}: a saved {config.peft_type.value} adapter holds its prompts without what computed "
            "them, so that it can't be trained on; method: peft would train a new one"
        )
    config.inference_mode = False
    return config


def _check_targets(model: Any, config: PeftConfig, settings: Settings, warn: Warn) -> None:
    targets = getattr(config, "target_modules", None)
    named = "target_modules" in (settings.peft_config or {})
    at = f"{AT}.target_modules" if named else "customization.target_modules"
    if isinstance(targets, set | list | tuple) and targets:
        for problem in check_targets(model, sorted(targets), at):
            warn(problem)
    elif targets == "all-linear" and not linear_layers(model):
        raise ConfigError(f"{at}: the model has no linear layer; name modules of it")
    if hasattr(config, "fan_in_fan_out") and not getattr(model, "is_quantized", False):
        config.fan_in_fan_out = any(isinstance(m, Conv1D) for m in model.modules())


def _other_size(model: PeftModel, saved: tuple[int, ...], present: torch.Tensor) -> bool:
    """AdaLoRA stores the ranks that are left, and takes them back."""
    return saved != tuple(present.shape) and _adalora(model) is None


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _add_layers(model: Any, config: PeftConfig, settings: Settings, source: Source, warn: Warn) -> list[str]:
    """`trainable_layers` as the library's `modules_to_save`: trained copies, stored with the adapter.

    What is trained itself needs no adapter; where an adapter is already there, it is what is trained.
    """
    found = below(model, settings.trainable_layers)
    for problem in found.problems:
        warn(problem)
    if not found.modules:
        return []
    if not hasattr(config, "modules_to_save"):
        raise ConfigError(
            f"customization.trainable_layers: an adapter of type {config.peft_type.value} is stored without other "
            "weights; leave it out, or choose a type such as LORA"
        )
    modules = list(found.modules)
    if source.adapter is not None:
        adapted = [name for name in modules if _targeted(config, name)]
        modules = [name for name in modules if name not in adapted]
        if adapted:
            warn(f"customization.trainable_layers: {', '.join(adapted)}: the adapter on it is trained, not the layer")
    elif hasattr(config, "exclude_modules"):
        before = config.exclude_modules or []
        if isinstance(before, str):
            raise ConfigError(f"{AT}.exclude_modules: give a list beside customization.trainable_layers")
        config.exclude_modules = [*before, *modules]
    config.modules_to_save = list(dict.fromkeys([*(config.modules_to_save or []), *modules]))
    return modules


def _targeted(config: Any, name: str) -> bool:
    targets = getattr(config, "target_modules", None)
    return isinstance(targets, set | list) and any(name == t or name.endswith(f".{t}") for t in targets)


def _wrapped(model: Any, config: Any) -> Any:
    blank = _is_blank(model)
    if blank and isinstance(getattr(config, "init_lora_weights", None), str):
        config.init_lora_weights = True
    try:
        adapted = get_peft_model(model, config, low_cpu_mem_usage=blank)
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, ImportError, RuntimeError) as e:
        raise ConfigError(f"{AT}: {config.peft_type.value} does not fit the model: {first_line(e)}") from e
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.float16, torch.bfloat16):
            parameter.data = parameter.data.float()
    if is_converted(config) and not blank:
        _remember_start(adapted)
    return adapted


def _remember_start(model: Any) -> None:
    """Keep the adapter as it began: what was learned is the difference to it."""
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    model.trainyard_start = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}


def _is_blank(model: Any) -> bool:
    return any(p.is_meta for p in model.parameters())
