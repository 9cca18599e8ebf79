"""What a model with a noise schedule says."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from schemas.diffusion import Options


def prediction(options: "Options", scheduler: Mapping[str, Any]) -> str:
    """`epsilon` or `v_prediction`: as the options name it, else as the model's scheduler is configured."""
    return str(options.prediction_type or scheduler.get("prediction_type", "epsilon"))
