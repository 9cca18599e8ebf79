"""The adapter that the document asks for, as a configuration of the peft library; judged without a model."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from peft import PeftConfig, PeftType, TaskType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from trainyard.trainer.failures import ConfigError, first_line
from trainyard.trainer.text.settings import Settings

AT = "customization.peft.config"
_LORA, _ADALORA = "LORA", "ADALORA"
#: The library's own, where the document says nothing: these are of no use on every linear layer.
_OWN_TARGETS = frozenset({"IA3", "LN_TUNING", "BEFT", "TRAINABLE_TOKENS", "ADAPTION_PROMPT", "XLORA", "POLY"})
#: AdaLoRA begins with more rank than it ends with; the ratio is that of the library's defaults.
_ADALORA_START = 1.5
_UNKNOWN_STEPS = 1 << 20
#: Of no use to a plain language model's training, each with its reason.
_REFUSED_TYPES = {
    "MULTITASK_PROMPT_TUNING": "it wants the number of a task with every row, and rows have none",
    "POLY": "it wants the number of a task with every row, and rows have none",
    "XLORA": "it mixes adapters that were trained before",
    "SHADOW": "it trains a second model beside the first, whose loss only a loop of its own knows",
}
#: What a type is nothing without, though its configuration has a default.
_NEEDED = {
    **dict.fromkeys(("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING", "CARTRIDGE"), ("num_virtual_tokens",)),
    "CPT": ("cpt_token_ids",),
    "TRAINABLE_TOKENS": ("token_indices",),
    "ADAPTION_PROMPT": ("adapter_len", "adapter_layers"),
}
#: They look at data before the first step, or change the base, so that their result would not load onto it again.
_REFUSED_STARTS = ("eva", "corda", "loftq", "lora_ga")
#: They change the base too, and the library writes their result as a plain LoRA of twice the rank.
_CONVERTED_STARTS = ("pissa", "olora")


def make_config(settings: Settings, steps: int | None = None) -> PeftConfig:
    """The configuration for `lora`, `qlora` and `peft`. Raises `ConfigError` with the path of what is wrong.

    `steps` are those of the whole run, which AdaLoRA plans by.
    """
    given = dict(settings.peft_config or {})
    kind = _kind(settings, given.pop("peft_type", None))
    made = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {f.name: f for f in fields(made) if f.init}
    hints = _hints(made)
    _check(given, known, hints, kind.value)
    values = _flat(settings, kind.value, known, steps) | given
    values.setdefault("task_type", TaskType.CAUSAL_LM)
    _check_use(values, kind.value)
    try:
        config = made(**{name: _built(value, hints.get(name)) for name, value in values.items()})
    except (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, ImportError) as e:
        raise ConfigError(f"{AT}: peft refuses it for {kind.value}: {first_line(e)}") from e
    if settings.gradient_checkpointing and kind.value == "PREFIX_TUNING":
        raise ConfigError(
            "tuning_parameters.gradient_checkpointing: PREFIX_TUNING hands its tokens over in the cache, which "
            "gradient checkpointing does not keep; leave it out"
        )
    return config


def merges(kind: PeftType) -> bool:
    """Whether adapters of this type are ever added to the weights."""
    tuner = PEFT_TYPE_TO_TUNER_MAPPING.get(kind)
    return tuner is not None and hasattr(tuner, "merge_and_unload") and kind.value not in ("XLORA", "POLY")


def is_converted(config: PeftConfig) -> bool:
    """Whether it changes the base when it starts, and is written as a plain LoRA."""
    start = getattr(config, "init_lora_weights", None)
    return config.peft_type == PeftType.LORA and isinstance(start, str) and start.startswith(_CONVERTED_STARTS)


def _kind(settings: Settings, asked: Any) -> PeftType:
    name = asked or _LORA
    if settings.method in ("lora", "qlora") and name != _LORA:
        raise ConfigError(
            f"{AT}.peft_type: method {settings.method!r} trains LORA, got {name!r}; method: peft would run"
        )
    names = [k.value for k in PEFT_TYPE_TO_CONFIG_MAPPING]
    if name not in names:
        near = get_close_matches(str(name).upper(), names, 1, 0.5)
        hint = f"; {near[0]} is near to it" if near else ""
        raise ConfigError(f"{AT}.peft_type: {name!r} is none of this peft's{hint}: {', '.join(sorted(names))}")
    if name in _REFUSED_TYPES:
        raise ConfigError(f"{AT}.peft_type: {name} can't be trained here: {_REFUSED_TYPES[name]}; LORA would run")
    return PeftType(name)


def _flat(settings: Settings, kind: str, known: Mapping[str, Any], steps: int | None) -> dict[str, Any]:
    """What the fields outside of `peft.config` say, for types that have such a thing."""
    values: dict[str, Any] = {}
    if kind == _LORA:
        values = {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    elif kind == _ADALORA:
        start = round(settings.rank * _ADALORA_START)
        values = {
            "target_r": settings.rank,
            "init_r": start,
            "total_step": steps or settings.max_steps or _UNKNOWN_STEPS,
        }
        values |= {"lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    elif kind in ("LOHA", "LOKR"):
        values = {"r": settings.rank, "alpha": settings.alpha}
    if "target_modules" in known:
        if settings.target_modules:
            values["target_modules"] = list(settings.target_modules)
        elif kind not in _OWN_TARGETS and "target_parameters" not in (settings.peft_config or {}):
            values["target_modules"] = "all-linear"
    return values


def _check(given: Mapping[str, Any], known: Mapping[str, Field[Any]], hints: Mapping[str, Any], kind: str) -> None:
    problems = list(_problems(given, known, hints, kind))
    if problems:
        raise ConfigError(*problems)


def _problems(
    given: Mapping[str, Any], known: Mapping[str, Field[Any]], hints: Mapping[str, Any], kind: str
) -> Iterator[str]:
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            hint = f"; {near[0]} is near to it" if near else f"; it knows {', '.join(sorted(known))}"
            yield f"{AT}.{name}: {kind} has no such key{hint}"
        elif name in hints and not fits(value, hints[name]):
            yield f"{AT}.{name}: must be {words(hints[name])}, got {value!r}"
    for name, one in known.items():
        bare = one.default is MISSING and one.default_factory is MISSING
        if (bare and name not in given) or (name in _NEEDED.get(kind, ()) and not given.get(name)):
            yield f"{AT}.{name}: {kind} needs it"


def _check_use(values: Mapping[str, Any], kind: str) -> None:
    if values["task_type"] not in (TaskType.CAUSAL_LM, None):
        raise ConfigError(f"{AT}.task_type: must be CAUSAL_LM, got {values['task_type']!r}")
    if values.get("inference_mode"):
        raise ConfigError(f"{AT}.inference_mode: must be false: an adapter in it can't be trained")
    start = values.get("init_lora_weights")
    if start in _REFUSED_STARTS:
        raise ConfigError(
            f"{AT}.init_lora_weights: {start!r} looks at data, or changes the base, before training begins, which "
            "is not done here; true, gaussian, pissa, olora or orthogonal would run"
        )
    if isinstance(start, str) and start.startswith(_CONVERTED_STARTS):
        against = [n for n in ("rank_pattern", "alpha_pattern", "use_dora", "modules_to_save") if values.get(n)]
        if against and (values.get("use_rslora") or "use_dora" in against or "modules_to_save" in against):
            raise ConfigError(
                f"{AT}.init_lora_weights: what {start!r} trains is written as a plain LoRA, which does not go together "
                f"with {', '.join(against)}"
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value can be of an annotated type; what can't be judged fits."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if hint is None or hint is type(None):
        return value is None
    if origin is Literal:
        return value in inner
    if origin in (list, set, tuple):
        return isinstance(value, list) and all(fits(v, inner[0]) for v in value if inner and origin is not tuple)
    if origin is dict:
        return isinstance(value, Mapping)
    return _fits_class(value, hint) if isinstance(hint, type) else True


def _fits_class(value: Any, hint: type) -> bool:
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        kinds = int if hint is int else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool)
    if issubclass(hint, Enum):
        return isinstance(value, str) and value in [str(one.value) for one in hint]
    if hint is str:
        return isinstance(value, str)
    if hint in (list, set, tuple):
        return isinstance(value, list)
    if hint is dict or is_dataclass(hint):
        return isinstance(value, Mapping)
    return True


def _built(value: Any, hint: Any) -> Any:
    """An object of a configuration as the class that it is of."""
    kinds = [one for one in (hint, *get_args(hint)) if is_dataclass(one) and isinstance(one, type)]
    return kinds[0](**value) if kinds and isinstance(value, Mapping) else value


def words(hint: Any) -> str:
    """A type for people."""
    inner = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        found = {words(one) for one in inner if one is not type(None)}
        return " or ".join(sorted(found, key=lambda kind: (len(kind), kind)))  # typing keeps no order of its own
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, inner))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", dict: "an object"}
    if get_origin(hint) in (list, set, tuple) or hint in (list, set, tuple):
        kinds = {str: " of strings", int: " of whole numbers"}
        return "a list" + (kinds.get(inner[0], "") if inner else "")
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(str(one.value) for one in hint)
    return names.get(hint, "an object" if get_origin(hint) is dict else getattr(hint, "__name__", str(hint)))


def _hints(made: type) -> dict[str, Any]:
    try:
        return get_type_hints(made)
    except (NameError, TypeError):  # an annotation that only a type checker can read
        return {}
