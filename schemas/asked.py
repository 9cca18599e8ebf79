"""Which fields a `/train` document gave itself, so that a wish can be told from a default."""

from collections.abc import Iterator, Mapping, Set
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


def _gives(document: Mapping[str, Any], path: str) -> bool:
    value: Any = document
    for part in path.replace("]", "").replace("[", ".").split("."):
        if value.__class__ is dict:
            value = value.get(part)
        elif value.__class__ is list and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return False
        if value is None:
            return False
    return value != [] or path not in _EMPTY_IS_ABSENT


class Asked(Set[str]):
    """The dotted path of all that a document gives (no nulls); other spellings are added under their usual name.

    Nothing is collected before somebody looks; one path is looked up by itself.
    """

    __slots__ = ("_document",)

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def __contains__(self, path: object) -> bool:
        if not isinstance(path, str):
            return False
        if _gives(self._document, path):
            return True
        return any(_gives(self._document, spelled) for spelled, usual in _SPELLINGS.items() if usual == path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths())

    def __len__(self) -> int:
        return len(self._paths())

    def _paths(self) -> set[str]:
        found: list[str] = []
        _collect("", self._document, found)
        asked = set(found)
        return asked | {usual for spelled, usual in _SPELLINGS.items() if spelled in asked}
