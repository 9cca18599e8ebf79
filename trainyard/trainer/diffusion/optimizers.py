"""The optimizers by their names; each takes the learning rate that the loop sets on its groups before every step."""

import ast
import inspect
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from attrs import evolve, frozen

from schemas.diffusion import Options
from trainyard.trainer.failures import ConfigError, first_line


@frozen
class _Kind:
    """Where an optimizer's class lies, and which of our words its constructor knows."""

    place: str
    words: frozenset[str]
    #: The package that it comes from, where that is none of the base install.
    package: str | None = None
    #: Its own, where it has three and the options say two.
    third_beta: float | None = None

    def make(self, parameters: Sequence[torch.nn.Parameter], values: Mapping[str, Any]) -> torch.optim.Optimizer:
        """Raises `ConfigError` for words of `optimizer_config` that its constructor does not know."""
        module, _, name = self.place.rpartition(".")
        kind = getattr(import_module(module), name)
        known = inspect.signature(kind).parameters
        if strange := [word for word in values if word not in known]:
            words = ", ".join(word for word in known if word != "params")
            raise ConfigError(f"{_CONFIG}: {', '.join(strange)}: {name} has {words}")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*`foreach` is deprecated", DeprecationWarning)
                made: torch.optim.Optimizer = kind(list(parameters), **values)
        except (TypeError, ValueError) as e:
            raise ConfigError(f"{_CONFIG}: {name}: {first_line(e)}") from e
        return made


_CONFIG = "extra_parameters.optimizer_config"
_ADAM = frozenset({"lr", "betas", "eps", "weight_decay"})
_LION = _ADAM - {"eps"}
_SGD = frozenset({"lr", "weight_decay"})
#: Of AdEMAMix' slow mean (Pagliardini et al., arXiv:2409.03137), as bitsandbytes has it.
_SLOW = 0.9999


def _optimi(name: str, words: frozenset[str]) -> _Kind:
    return _Kind(f"optimi.{name}", words, "torch-optimi")


def _bnb(name: str, words: frozenset[str]) -> _Kind:
    return _Kind(f"bitsandbytes.optim.{name}", words, "bitsandbytes")


_KINDS: dict[str, _Kind] = {
    "torch-adamw": _Kind("torch.optim.AdamW", _ADAM),
    "torch-adam": _Kind("torch.optim.Adam", _ADAM),
    "torch-sgd": _Kind("torch.optim.SGD", _SGD),
    "torch-adafactor": _Kind("torch.optim.Adafactor", frozenset({"lr", "weight_decay"})),
    "optimi-adamw": _optimi("AdamW", _ADAM),
    "optimi-adam": _optimi("Adam", _ADAM),
    "optimi-stableadamw": _optimi("StableAdamW", _ADAM),
    "optimi-radam": _optimi("RAdam", _ADAM),
    "optimi-ranger": _optimi("Ranger", _ADAM),
    "optimi-adan": _optimi("Adan", _ADAM - {"betas"}),
    "optimi-lion": _optimi("Lion", _LION),
    "optimi-sgd": _optimi("SGD", _SGD),
    "bnb-adamw8bit": _bnb("AdamW8bit", _ADAM),
    "bnb-adamw": _bnb("AdamW", _ADAM),
    "bnb-adamw8bit-paged": _bnb("PagedAdamW8bit", _ADAM),
    "bnb-adamw-paged": _bnb("PagedAdamW", _ADAM),
    "bnb-lion8bit": _bnb("Lion8bit", _LION),
    "bnb-lion": _bnb("Lion", _LION),
    "bnb-lion8bit-paged": _bnb("PagedLion8bit", _LION),
    "bnb-lion-paged": _bnb("PagedLion", _LION),
    "bnb-ademamix8bit": evolve(_bnb("AdEMAMix8bit", _ADAM), third_beta=_SLOW),
    "bnb-ademamix": evolve(_bnb("AdEMAMix", _ADAM), third_beta=_SLOW),
    "bnb-adagrad": _bnb("Adagrad", _ADAM - {"betas"}),
    "bnb-lamb": _bnb("LAMB", _ADAM),
}
_STOCHASTIC = _Kind("trainyard.trainer.diffusion.stochastic.StochasticAdamW", _ADAM)
_ALIASES = {"adamw": "torch-adamw"}
NAMES = ("adamw_bf16", *_ALIASES, *_KINDS)
#: What keeps weights in bf16 without losing small steps: by rounding at random, or by what rounding left over.
_KEEPS_SMALL_STEPS = ("adamw_bf16", "optimi-")
#: Numbers of a tensor, on the average, whose work is done before the next one is launched.
_SMALL = 1 << 20
_PACKAGES = {"torch-optimi": "optimi", "bitsandbytes": "bitsandbytes"}


def keeps_small_steps(name: str) -> bool:
    """Whether weights may be held in bf16: an ordinary optimizer's steps are mostly smaller than bf16's spacing."""
    return name.startswith(_KEEPS_SMALL_STEPS)


def problem(name: str) -> str | None:
    """What is wrong with an optimizer's name on this machine."""
    kind = _KINDS.get(_ALIASES.get(name, name))
    if name != "adamw_bf16" and kind is None:
        return f"optimizer: {name!r} is not in this version; it has {', '.join(NAMES)}"
    if kind is not None and kind.package is not None and find_spec(_PACKAGES[kind.package]) is None:
        return f"optimizer: {name!r} needs the package {kind.package}, which is not installed"
    return None


def make_optimizer(options: Options, parameters: Sequence[torch.nn.Parameter], seed: int) -> torch.optim.Optimizer:
    """The optimizer over what is trained. Raises `ConfigError` for a name that is not known or can't be had here.

    `seed` begins the random rounding of `adamw_bf16`; it is the same in every process, so that their copies stay alike.
    """
    if found := problem(options.optimizer):
        raise ConfigError(f"extra_parameters.{found}")
    betas = options.adam_beta1, options.adam_beta2
    if options.optimizer_beta1 is not None and options.optimizer_beta2 is not None:
        betas = options.optimizer_beta1, options.optimizer_beta2
    kind = _KINDS.get(_ALIASES.get(options.optimizer, options.optimizer), _STOCHASTIC)
    values = {
        "lr": options.learning_rate,
        "betas": betas if kind.third_beta is None else (*betas, kind.third_beta),
        "eps": options.adam_epsilon,
        "weight_decay": options.adam_weight_decay,
    }
    told = {name: value for name, value in values.items() if name in kind.words} | _config(options.optimizer_config)
    if kind is _STOCHASTIC:
        told["seed"] = seed
    if kind.package == "torch-optimi" and not told.keys() & {"triton", "gradient_release"} and _many_small(parameters):
        told = {"foreach": True} | told
    return kind.make(parameters, told)


def _many_small(parameters: Sequence[torch.nn.Parameter]) -> bool:
    """Whether torch-optimi is told to take all tensors in one launch: else it makes one, and its Triton's start, each.

    Of weights in bf16 it keeps what rounding left over more exactly where it takes them one by one.
    """
    exact = all(parameter.dtype is torch.float32 for parameter in parameters)
    return exact and len(parameters) > 1 and sum(p.numel() for p in parameters) < _SMALL * len(parameters)


def _config(text: str | None) -> dict[str, Any]:
    """`name=value,name=value`, each value a Python literal or a word."""
    found: dict[str, Any] = {}
    for part in (text or "").split(","):
        name, sign, value = part.partition("=")
        if not part.strip():
            continue
        if not sign or not name.strip().isidentifier():
            raise ConfigError(f"{_CONFIG}: {part.strip()!r}: name=value would be right")
        try:
            found[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            found[name.strip()] = value.strip()
    return found
