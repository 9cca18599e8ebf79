"""The model of a job on meta: every shape, nothing in it, the adapter on top; for what can be known without weights."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from trainyard.trainer.failures import from_source
from trainyard.trainer.text import model as models
from trainyard.trainer.text.settings import Settings


def blank(
    source: models.Source, config: Any, settings: Settings, device: torch.device, warn: Callable[[str], None]
) -> Any:
    """The model as `load_model` would make it for `device`, of a quantised base the whole one.

    Raises what loading it and making it trainable would raise: weights of other shapes than the configuration says,
    an adapter that does not fit, targets and layers that mean nothing.
    """
    half = models.computed_in(settings, device)
    try:
        with torch.device("meta"):
            made = AutoModelForCausalLM.from_config(
                config, dtype=(half or torch.float32) if settings.adapts else torch.float32, trust_remote_code=False
            )
    except Exception as e:
        raise from_source(e, source.where) from e
    if settings.method != "scratch":
        models.check_shapes(made, source)
    return models.dress(made, source, settings, warn=warn)
