"""In which numbers a denoiser is held and computes."""

from contextlib import AbstractContextManager

import torch
from attrs import frozen

from schemas.diffusion import Options
from trainyard.trainer.diffusion.optimizers import keeps_small_steps
from trainyard.trainer.failures import ConfigError

_COMPUTED = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": None}
_HELD = {"bf16": torch.bfloat16, "fp32": torch.float32}


@frozen
class Precision:
    """`held`: the type of the denoiser's weights; `computed`: that of its products, None where it is fp32."""

    held: torch.dtype
    computed: torch.dtype | None

    @classmethod
    def of(cls, options: Options, device: torch.device) -> "Precision":
        """As the options say. Raises `ConfigError` for what this device does not compute in.

        A frozen base is held in what it computes in. Weights that are trained are held in fp32, or in bf16 with an
        optimizer that does not lose small steps there. An adapter's own weights are always in fp32.
        """
        computed = _COMPUTED[options.mixed_precision]
        if computed is torch.bfloat16 and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
            raise ConfigError(
                f"extra_parameters.mixed_precision: {torch.cuda.get_device_name(device)} does not compute in "
                "bfloat16; fp16 or no would run"
            )
        if options.model_type == "full":
            small = computed is torch.bfloat16 and keeps_small_steps(options.optimizer)
            return cls(torch.bfloat16 if small else torch.float32, computed)
        if options.base_model_precision != "no_change":
            return cls(_HELD[options.base_model_default_dtype], computed)
        return cls(computed or torch.float32, computed)

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Around everything that computes with the denoiser."""
        return torch.autocast(device.type, self.computed, enabled=self.computed is not None)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler:
        """Keeps small gradients of fp16 from vanishing; does nothing for other types."""
        return torch.amp.GradScaler(device.type, enabled=self.computed is torch.float16)
