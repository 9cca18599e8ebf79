"""An adapter added to its base: one whole model that needs neither peft nor a quantiser."""

import copy
from typing import Any

import torch
from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers.pytorch_utils import Conv1D

from trainyard.trainer.failures import ConfigError, first_line
from trainyard.trainer.text.model.peft_config import merges
from trainyard.trainer.text.model.quantised import dequantise, is_quantised

_AT = "extra_parameters.merge"
NAME = "default"


def check_merge(model: Any) -> None:
    """Raises `ConfigError` for an adapter that can't be added to the weights; tried on its smallest layer."""
    config = model.peft_config[NAME]
    kind = config.peft_type
    if not merges(kind):
        raise ConfigError(f"{_AT}: {kind.value} can't be added to the weights of the base; leave merge out")
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    if not layers or any(p.is_meta for p in model.parameters()) or is_quantised(model.get_base_model()):
        return
    smallest = min(layers, key=lambda layer: sum(p.numel() for p in layer.parameters()))
    try:
        copy.deepcopy(smallest).merge(safe_merge=False)
    except Exception as e:
        raise ConfigError(
            f"{_AT}: {kind.value} with this configuration can't be added to the weights of the base: {first_line(e)}"
        ) from e


def merged(model: Any, dtype: torch.dtype) -> Any:
    """The whole model in `dtype`, made in place of the adapted one, which is of no use any more."""
    base = model.get_base_model()
    if is_quantised(base):
        model = _onto_whole_base(model, dtype)
    else:
        _cast_frozen(model, dtype)
    _untie(model)
    found = model.merge_and_unload()
    _tell_untied(found)
    return found.to(dtype)


def _onto_whole_base(model: Any, dtype: torch.dtype) -> Any:
    """The same adapter on the base as the quantised one computes: 4 and 8 bits do not hold what was learned."""
    config, weights = (
        copy.deepcopy(model.peft_config[NAME]),
        get_peft_model_state_dict(model, save_embedding_layers=False),
    )
    weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
    base = model.unload()
    dequantise(base, dtype)
    base.to(dtype)
    if hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = any(isinstance(m, Conv1D) for m in base.modules())
    adapted = get_peft_model(base, config)
    set_peft_model_state_dict(adapted, weights, NAME)
    return adapted


def _cast_frozen(model: Any, dtype: torch.dtype) -> None:
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)


def _untie(model: Any) -> None:
    """A head that shares its weight with the embeddings gets its own where one of the two was adapted, or each was."""
    base = model.get_base_model()
    head, embeddings = base.get_output_embeddings(), base.get_input_embeddings()
    adapted = [m for m in (head, embeddings) if isinstance(m, BaseTunerLayer)]
    if adapted:
        layer = adapted[0].get_base_layer()
        layer.weight = torch.nn.Parameter(layer.weight.data.clone(), requires_grad=False)


def _tell_untied(model: Any) -> None:
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embeddings.weight:
        model.config.tie_word_embeddings = model.config.get_text_config().tie_word_embeddings = False
