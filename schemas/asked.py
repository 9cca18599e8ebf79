"""Which fields a `/train` document gave itself, so that a wish can be told from a default."""

from collections.abc import Mapping
from typing import Any, Final

#: `customization.lora.x` and the flat field of `customization` that it is a spelling of.
LORA_SPELLINGS: Final = {
    "rank": "rank",
    "target_modules": "target_modules",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
}
_SPELLINGS: Final = {
    f"customization.lora.{spelled}": f"customization.{name}" for spelled, name in LORA_SPELLINGS.items()
} | {"customization.gradient_checkpointing": "tuning_parameters.gradient_checkpointing"}
_EMPTY_IS_ABSENT: Final = frozenset(
    {"customization.target_modules", "customization.trainable_layers", "customization.lora.target_modules"}
)


def _collect(prefix: str, value: Mapping[str, Any] | list[Any], found: list[str]) -> None:
    is_list = value.__class__ is list
    for key, item in enumerate(value) if is_list else value.items():  # type: ignore[union-attr]
        if item is None:
            continue
        name = f"{prefix}[{key}]" if is_list else f"{prefix}{key}"
        if item.__class__ is dict:
            _collect(name + ".", item, found)
        elif item.__class__ is list:
            if not item and name in _EMPTY_IS_ABSENT:
                continue
            _collect(name, item, found)
        found.append(name)


def asked_paths(document: Mapping[str, Any]) -> frozenset[str]:
    """The dotted path of all that a document gives (no nulls); other spellings are added under their usual name."""
    found: list[str] = []
    _collect("", document, found)
    asked = frozenset(found)
    usual = {name for spelled, name in _SPELLINGS.items() if spelled in asked}
    return asked | usual if usual else asked
