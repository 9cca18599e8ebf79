"""Modules by their names: which ones a document means, and which names are near to one that means nothing."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from attrs import frozen
from transformers.pytorch_utils import Conv1D

from trainyard.trainer.failures import ConfigError

_AT = "customization.trainable_layers"
_NEAR = 4


@frozen
class Found:
    """Modules that hold parameters below the prefixes, and what to say of each prefix that means nothing."""

    modules: tuple[str, ...]
    problems: tuple[str, ...]


def below(model: Any, prefixes: Sequence[str]) -> Found:
    """The modules that `prefixes` mean: names of modules (or parameters) in full, or their beginning up to a dot."""
    owners = list(dict.fromkeys(name.rpartition(".")[0] for name, _ in _parameters(model)))
    modules: dict[str, None] = {}
    problems = []
    for prefix in prefixes:
        names = [name.rpartition(".")[0] for name, _ in _parameters(model) if _under(name, prefix)]
        modules.update(dict.fromkeys(names))
        if not names:
            problems.append(f"{_AT}: {prefix!r} is the beginning of no module's name{_nearest(prefix, _stems(owners))}")
    return Found(tuple(modules), tuple(problems))


def train_only(model: Any, prefixes: Sequence[str]) -> None:
    """Freeze everything but what `prefixes` mean. Raises `ConfigError` for one that means nothing."""
    found = below(model, prefixes)
    if found.problems:
        raise ConfigError(*found.problems)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for name, parameter in _parameters(model):  # a tied weight is trained when one of its names is meant
        if any(_under(name, prefix) for prefix in prefixes):
            parameter.requires_grad_(True)


def linear_layers(model: Any) -> list[str]:
    """All linear layers but the head's, by name; GPT-2's `Conv1D` is one too, and so is a quantised layer."""
    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def check_targets(model: Any, targets: Sequence[str], at: str) -> list[str]:
    """What to say of targets that are in no module's name. Raises `ConfigError` when that is all of them."""
    names = [name for name, _ in model.named_modules() if name]
    lost = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names)]
    linear = linear_layers(model)
    short = list(dict.fromkeys(name.rpartition(".")[2] for name in linear))
    said = [f"{at}: {target!r} is no module of the model{_nearest(target, short, linear)}" for target in lost]
    if lost and len(lost) == len(targets):
        raise ConfigError(*said)
    return said


def nearest(name: str, known: Iterable[str]) -> str:
    """`; the nearest is …`, or which names there are."""
    return _nearest(name, list(known))


def _nearest(name: str, *known: list[str]) -> str:
    names = [n for some in known for n in some]
    ending = [n for n in names if n.endswith(f".{name}") or f".{name}." in n]
    close = ending[:_NEAR] or get_close_matches(name, names, _NEAR, 0.5) or names[:_NEAR]
    return f"; the nearest: {', '.join(dict.fromkeys(close))}" if close else ""


def _under(name: str, prefix: str) -> bool:
    stem = prefix.rstrip(".")
    return name == stem or name.startswith(f"{stem}.")


def _stems(owners: Iterable[str]) -> list[str]:
    """Every name that would mean something: each module and those around it."""
    found: dict[str, None] = {}
    for owner in owners:
        parts = owner.split(".")
        found.update(dict.fromkeys(".".join(parts[: n + 1]) for n in range(len(parts))))
    return list(found)


def _parameters(model: Any) -> list[tuple[str, Any]]:
    return list(model.named_parameters(remove_duplicate=False))
