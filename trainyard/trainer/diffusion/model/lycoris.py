"""LyCORIS: LoKr, LoHa and LoCon beside the denoiser's own weights (Yeh et al., arXiv:2309.14859)."""

import json
import logging
import threading
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from attrs import asdict, frozen

from schemas.diffusion import Options
from schemas.diffusion.lycoris import LycorisFile, LycorisPreset
from trainyard.trainer.diffusion.model.precision import Precision
from trainyard.trainer.diffusion.model.trained import TRAINED, load_into, save_tensors
from trainyard.trainer.failures import ConfigError

FILE, CONFIG = "pytorch_lora_weights.safetensors", "lycoris_config.json"
_AT = "extra_parameters.lycoris_config"
#: Only where they compute beside the base.
_WITH_DROPOUT = ("lokr", "loha", "locon", "lora")
_ONE_AT_A_TIME = threading.Lock()


@frozen
class Lycoris:
    """See `trained.Trained`; the parameters are the network's, in fp32."""

    denoiser: Any
    network: Any
    config: LycorisFile

    @classmethod
    def put_on(cls, denoiser: Any, config: LycorisFile, options: Options, precision: Precision) -> "Lycoris":
        """Begin an adapter that changes nothing yet. Raises `ConfigError` where none of the modules is there.

        Where the base is not in fp32 the adapter computes beside it: added to weights in fewer bits it would be
        rounded away.
        """
        from lycoris.wrapper import LycorisNetwork

        logging.getLogger("LyCORIS").setLevel(logging.ERROR)
        beside = _beside(options, precision)
        rank = config.linear_dim or options.lora_rank
        alpha = config.linear_alpha
        if alpha is None:
            alpha = options.lora_alpha or rank
        kinds = {type(module).__name__ for module in denoiser.modules()}
        with _preset(LycorisNetwork, config.apply_preset, kinds), redirect_stdout(StringIO()):
            network = LycorisNetwork(
                denoiser,
                multiplier=config.multiplier,
                lora_dim=rank,
                alpha=alpha,
                conv_lora_dim=rank,
                conv_alpha=alpha,
                dropout=options.lora_dropout if drops_out(config, options, precision) else 0.0,
                network_module=config.algo,
                factor=-1 if config.factor is None else config.factor,
                full_matrix=config.full_matrix,
                bypass_mode=(beside and config.algo != "full") or None,
                warn_on_unmatched=False,
            )
        if not network.loras:
            preset = config.apply_preset
            named = [*preset.target_module, *preset.target_name]
            raise ConfigError(f"{_AT}.apply_preset: none of {', '.join(named)} is in {type(denoiser).__name__}")
        network.apply_to()
        denoiser.requires_grad_(False)
        network.to(next(denoiser.parameters()).device, torch.float32).requires_grad_(True).train()
        return cls(denoiser, network, config)

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `trained.Trained`."""
        return dict(self.network.named_parameters())

    def save(self, folder: Path) -> None:
        """See `trained.Trained`."""
        save_tensors(self.parameters, folder / TRAINED)
        self.write(folder)

    def load(self, folder: Path) -> None:
        """See `trained.Trained`."""
        load_into(self.parameters, [folder / TRAINED])

    def write(self, folder: Path) -> None:
        """A file for `lycoris.create_lycoris_from_weights`, and the configuration that it was made by."""
        save_tensors(self.network.state_dict(), folder / FILE)
        plain = asdict(self.config)
        plain["apply_preset"] = {name: value for name, value in plain["apply_preset"].items() if value}
        (folder / CONFIG).write_text(json.dumps({k: v for k, v in plain.items() if v is not None}, indent=2))


def drops_out(config: LycorisFile, options: Options, precision: Precision) -> bool:
    """Whether the algorithm has a dropout, over this base."""
    return config.algo in _WITH_DROPOUT and _beside(options, precision)


def _beside(options: Options, precision: Precision) -> bool:
    return precision.held is not torch.float32 or options.base_model_precision != "no_change"


@contextmanager
def _preset(network: Any, preset: LycorisPreset, kinds: Set[str]) -> Iterator[None]:
    """What LyCORIS keeps in its class, as the file says while a network is made, and as it was afterwards.

    `kinds`: class names of the denoiser's modules. `Attention`, which files of older models name, is `FluxAttention` in
    one that has no other.
    """
    by_kind = {now: value for kind, value in _settings(preset.module_algo_map).items() for now in _now(kind, kinds)}
    names = {
        "TARGET_REPLACE_MODULE": [now for kind in preset.target_module for now in _now(kind, kinds)],
        "TARGET_REPLACE_NAME": list(preset.target_name),
        "TARGET_EXCLUDE_NAME": list(preset.exclude_name),
        "MODULE_ALGO_MAP": by_kind,
        "NAME_ALGO_MAP": _settings(preset.name_algo_map),
        "USE_FNMATCH": True,
        "ENABLE_CONV": True,
        "LORA_PREFIX": "lycoris",
    }
    with _ONE_AT_A_TIME:
        before = {name: getattr(network, name) for name in names}
        try:
            for name, value in names.items():
                setattr(network, name, value)
            yield
        finally:
            for name, value in before.items():
                setattr(network, name, value)


def _now(kind: str, kinds: Set[str]) -> list[str]:
    """What a class is called in this denoiser."""
    return [kind] if kind in kinds else sorted(each for each in kinds if each.endswith(kind)) or [kind]


def _settings(overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """With the words of LyCORIS' modules for those of its files."""
    spelled = {"linear_dim": "dim", "linear_alpha": "alpha"}
    return {name: {spelled.get(key, key): value for key, value in some.items()} for name, some in overrides.items()}
