"""Which part of a denoiser is trained: all of it, or an adapter on it."""

from collections.abc import Callable
from typing import Any

from schemas.diffusion import Options
from schemas.diffusion.lycoris import LycorisFile
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.model.lora import Lora
from trainyard.trainer.diffusion.model.lycoris import Lycoris, drops_out
from trainyard.trainer.diffusion.model.precision import Precision
from trainyard.trainer.diffusion.model.trained import Trained
from trainyard.trainer.diffusion.model.whole import Whole
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ConfigError


def put_on(
    denoiser: Any,
    family: Family,
    weights: Weights,
    options: Options,
    precision: Precision,
    say: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Make a denoiser ready to be trained as `model_type` and `lora_type` say; `say` is told what has no effect.

    Raises `ConfigError` where the modules that an adapter shall be put on are not there.
    """
    denoiser.train()
    if options.gradient_checkpointing:
        denoiser.enable_gradient_checkpointing()
    if options.model_type == "full":
        denoiser.requires_grad_(True)
        return Whole(denoiser, family, weights, options)
    denoiser.requires_grad_(False)
    if options.lora_type == "standard":
        return Lora.put_on(denoiser, family, options)
    config = options.lycoris_config
    if not isinstance(config, LycorisFile):
        raise ConfigError(f"extra_parameters.lycoris_config: lora_type is lycoris, and this is {config!r}")
    if options.lora_dropout > 0 and not drops_out(config, options, precision):
        over = "" if config.algo == "full" else " over a base in fp32"
        say(f"lora_dropout: {config.algo} has none{over}, so that nothing is dropped out")
    return Lycoris.put_on(denoiser, config, options, precision)
