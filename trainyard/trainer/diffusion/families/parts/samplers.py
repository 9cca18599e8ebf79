"""Samplers of models with a noise schedule."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainyard.trainer.diffusion.families.parts.schedule import prediction
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from schemas.diffusion import Options


def sampler(weights: Weights, options: "Options", usual: Mapping[str, Any]) -> Any:
    """The model's own sampler over its own schedule, as the options change it; `usual` where the model names none."""
    import diffusers

    told = weights.config("scheduler") or dict(usual)
    changed: dict[str, Any] = {
        "prediction_type": prediction(options, told),
        "timestep_spacing": options.inference_scheduler_timestep_spacing,
    }
    if options.rescale_betas_zero_snr:
        changed["rescale_betas_zero_snr"] = True
    return getattr(diffusers, str(told["_class_name"])).from_config({**told, **changed})
