"""Other samplers than a model's own, for models that are told noise: the names of `validation_noise_scheduler`."""

from collections.abc import Mapping
from typing import Any, Final

from trainyard.trainer.failures import ConfigError

_CLASSES: Final[Mapping[str, str]] = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
}


def check_sampler(name: str | None, prediction: str) -> None:
    """Raises `ConfigError` for a sampler that a model of this prediction can't have."""
    if name is not None and prediction == "flow_matching":
        raise ConfigError(
            f"extra_parameters.validation_noise_scheduler: {name!r} is for models that are told noise; a model of flow "
            "has its own sampler: leave it out"
        )


def with_sampler(pipeline: Any, name: str | None) -> None:
    """Give a pipeline this sampler, over the same noise; none: its own."""
    if name is None:
        return
    import diffusers

    pipeline.scheduler = getattr(diffusers, _CLASSES[name]).from_config(pipeline.scheduler.config)
