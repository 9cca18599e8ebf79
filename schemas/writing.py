"""From the frozen classes back to plain JSON: secrets and the secret parts of URLs come out as the mask."""

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import attrs
import cattrs
from cattrs.fns import identity
from cattrs.gen import make_dict_unstructure_fn, override

from schemas.fields import choices, is_mapping, item_type, shape_of
from schemas.masking import shown_free
from schemas.uri import mask_urls
from schemas.values import MASK, Secret


def register(converter: cattrs.Converter) -> None:
    """Teach a converter to write."""
    write = converter.unstructure

    def class_hook(cls: type[Any]) -> Callable[[Any], dict[str, Any]]:
        return _class_hook(cls, converter)

    converter.register_unstructure_hook_factory(attrs.has, class_hook)
    converter.register_unstructure_hook(Secret, _mask)
    converter.register_unstructure_hook(str, mask_urls)
    converter.register_unstructure_hook_func(_subclass_of(Enum), lambda member: member.value)
    converter.register_unstructure_hook_func(_subclass_of(PurePath), str)
    converter.register_unstructure_hook_func(
        _subclass_of(Mapping), lambda found: {key: write(v) for key, v in found.items()}
    )
    for kind in (list, tuple):
        converter.register_unstructure_hook_func(_subclass_of(kind), lambda found: [write(item) for item in found])
    converter.register_unstructure_hook_func(
        _subclass_of((set, frozenset)), lambda found: [write(i) for i in sorted(found)]
    )


def _mask(_secret: Secret) -> str:
    return MASK


def _subclass_of(kind: type[Any] | tuple[type[Any], ...]) -> Callable[[Any], bool]:
    return lambda tp: isinstance(tp, type) and issubclass(tp, kind)


def _class_hook(cls: type[Any], converter: cattrs.Converter) -> Callable[[Any], dict[str, Any]]:
    shape = shape_of(cls)
    how: dict[str, Any] = {item.name: override(omit=True) for item in attrs.fields(cls)}
    for name, field in shape.fields.items():
        if not field.spelling:
            how[name] = override(omit=False, unstruct_hook=_hook_of(field.kind.bare, converter.unstructure))
    to_json = make_dict_unstructure_fn(cls, converter, **how)
    rest = shape.rest
    return to_json if rest is None else lambda value: to_json(value) | shown_free(dict(getattr(value, rest)))


def _hook_of(bare: Any, write: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """How a field is written that may be null."""
    if bare in (int, float, bool) or choices(bare):
        return identity
    if bare is str:
        return lambda text: text if text is None or "://" not in text else mask_urls(text)
    hook = shown_free if _undeclared(bare) else write
    return lambda value: None if value is None else hook(value)


def _undeclared(bare: Any) -> bool:
    """Is it JSON whose inside no class declares?"""
    return bare in (Any, object) or (is_mapping(bare) and item_type(bare) in (Any, object, None))
