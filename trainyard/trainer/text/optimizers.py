"""The optimizers of the document's words; each takes the loop's learning rate as it is."""

from collections.abc import Sequence
from typing import Any

import torch

from trainyard.trainer.text.settings import Settings


def make_optimizer(settings: Settings, groups: Sequence[dict[str, Any]], model: Any) -> torch.optim.Optimizer:
    """The optimizer over parameter groups (`params`, `weight_decay`); its state is fp32, of `…_8bit` mostly 8 bits."""
    if settings.optimizer == "adafactor":
        return _adafactor(groups, settings.learning_rate)
    if settings.optimizer.endswith("_8bit"):
        return _in_8_bits(groups, settings.learning_rate, model, paged=settings.optimizer.startswith("paged"))
    return torch.optim.AdamW([*groups], lr=settings.learning_rate, fused=True)


def _adafactor(groups: Sequence[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    """Transformers' and not torch's, which scales each step by the size of the parameter and caps the rate at 1/√step.

    So `learning_rate` and the scheduler mean the same with each optimizer.
    """
    from transformers.optimization import Adafactor

    return Adafactor([*groups], lr=rate, scale_parameter=False, relative_step=False, warmup_init=False)


def _in_8_bits(groups: Sequence[dict[str, Any]], rate: float, model: Any, paged: bool) -> torch.optim.Optimizer:
    """bitsandbytes' AdamW; embeddings keep a state in fp32, as its authors advise: their gradients differ too much.

    Pages move between a GPU's memory and the host's: on a CPU the paged one is the other.
    """
    import bitsandbytes as bnb

    overrides = bnb.optim.GlobalOptimManager.get_instance()
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding) and module.weight.requires_grad:
            overrides.register_module_override(module, "weight", {"optim_bits": 32})
    on_gpu = any(p.is_cuda for group in groups for p in group["params"])
    kind = bnb.optim.PagedAdamW8bit if paged and on_gpu else bnb.optim.AdamW8bit
    made: torch.optim.Optimizer = kind([*groups], lr=rate)
    return made
