"""What of a job's settings can't be done, or not on this machine: said before any weight is loaded."""

import torch

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text.model.peft_config import make_config, merges
from trainyard.trainer.text.model.precision import check_numbers
from trainyard.trainer.text.settings import Settings


def check_machine(settings: Settings, device: torch.device) -> None:
    """Raises `ConfigError` for what can't be run here; what only the model can tell is told when it is loaded."""
    check_numbers(settings, device)
    if not settings.adapts or settings.method == "adapter":
        return
    kind = make_config(settings).peft_type
    if settings.merge and not merges(kind):
        raise ConfigError(
            f"extra_parameters.merge: {kind.value} can't be added to the weights of the base; leave merge out"
        )
