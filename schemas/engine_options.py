"""Who owns which key of `extra_parameters`: the contract its common keys, then each backend and each engine its own."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from schemas.diffusion.options import Options
from schemas.fields import shape_of
from schemas.text_options import TextOptions
from schemas.trail import Trail
from schemas.train import ExtraParameters

USUAL_ENGINE: Final = "text"
ENGINES: Final[Mapping[str, type[Any]]] = {"text": TextOptions, "diffusion": Options}


_classes: dict[tuple[type[Any], str | None], type[Any]] = {}


class KeyTaken(ValueError):
    """Two owners claim one key of `extra_parameters`."""


def options_with(backend: type[Any], engine: object = None) -> type[Any]:
    """One class with the keys of a backend and of an engine (None: the usual one). Raises `KeyTaken`."""
    name = USUAL_ENGINE if engine is None else engine
    return _merged(backend, name if isinstance(name, str) and name in ENGINES else None)


def check_keys(backend: type[Any]) -> None:
    """Raises `KeyTaken` where a backend's key is one of an engine or of the contract."""
    for engine in ENGINES:
        _merged(backend, engine)


def _merged(backend: type[Any], engine: str | None) -> type[Any]:
    key = (backend, engine)
    if key not in _classes:
        _classes[key] = _merge(backend, engine)
    return _classes[key]


def _merge(backend: type[Any], engine: str | None) -> type[Any]:
    owners = {"the backend": backend} | ({f"engine {engine!r}": ENGINES[engine]} if engine else {})
    keys: dict[str, Any] = {}
    claimed = dict.fromkeys(shape_of(ExtraParameters).fields, "the contract")
    for owner, cls in owners.items():
        for name in shape_of(cls).fields:
            if name in claimed:
                raise KeyTaken(f"the key {name!r} of extra_parameters belongs to {claimed[name]} and to {owner}")
            claimed[name] = owner
        keys |= {item.name: _again(item) for item in attrs.fields(cls)}
    body: dict[str, Any] = {"settle": _settling(tuple(owners.values())), "__doc__": backend.__doc__}
    if any(hasattr(owner, "respell") for owner in owners.values()):
        body["respell"] = _respelling(tuple(owners.values()))
    return attrs.make_class(backend.__name__, keys, frozen=True, class_body=body)


def _again(item: "attrs.Attribute[Any]") -> Any:
    return attrs.field(
        default=item.default,
        validator=item.validator,
        converter=item.converter,
        type=item.type,
        metadata=item.metadata,
        init=item.init,
        repr=item.repr,
        kw_only=True,
    )


def _respelling(owners: tuple[type[Any], ...]) -> Any:
    """Every owner puts its own keys into its own words, one after the other; other keys go through as they are."""

    def respell(_cls: type[Any], document: dict[str, Any], trail: Trail) -> dict[str, Any]:
        for owner in owners:
            if (own := getattr(owner, "respell", None)) is not None:
                document = own(document, trail)
        return document

    return classmethod(respell)


def _settling(owners: tuple[type[Any], ...]) -> Any:
    """Every owner settles its own keys, as far as it has something to settle."""

    def settle(_cls: type[Any], given: dict[str, Any], document: Mapping[str, Any], trail: Trail) -> None:
        for owner in owners:
            if (own := getattr(owner, "settle", None)) is not None:
                own(given, document, trail)

    return classmethod(settle)
