"""The secrets of a `/train` document: found, hidden, put back, and left out where two documents are compared.

Secret are the typed fields, every value of `extra_parameters.env`, user-info and query of every URL, and whatever lies
under an unknown key that looks secret. All of it works on documents, right or wrong, and never changes them.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import attrs

from schemas.fields import is_list, is_mapping, item_type, kind_of, shape_of
from schemas.masking import Keep, Path, looks_secret, mask_free
from schemas.train import TrainRequest
from schemas.uri import without_secret_parts
from schemas.values import MASK, Secret, joined

JSONObject = dict[str, Any]
_Masker = Callable[[Any, Path, Keep], Any]

_LARGEST_EXACT: Final = 2**53
_PLAIN: Final = frozenset({int, float, bool, type(None)})
_LEAVES: Final = frozenset({int, bool, type(None)})
_canonical: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode
_maskers: dict[tuple[Any, type[Any] | None], _Masker] = {}


@attrs.frozen
class Sealed:
    """A document with its secrets taken out, and each secret's text by its dotted path."""

    document: JSONObject
    values: dict[str, str] = attrs.field(repr=lambda values: repr(sorted(values)))


def seal(document: Mapping[str, Any], *, options: type[Any] | None = None) -> Sealed:
    """Take the secrets out of a document; `options` is the class of the backend's own keys of `extra_parameters`.

    The value under a URL's path is the whole URL; numbers under keys that look secret are kept as text.
    """
    values: dict[str, str] = {}

    def keep(path: Path, text: str) -> None:
        values[joined(*path)] = text

    masked = _masker(TrainRequest, options)(dict(document), (), keep)
    return Sealed(cast(JSONObject, masked), values)


def mask(document: Mapping[str, Any], *, options: type[Any] | None = None) -> JSONObject:
    """A copy of a document that may be shown."""
    return seal(document, options=options).document


def secret_values(document: Mapping[str, Any], *, options: type[Any] | None = None) -> dict[str, str]:
    """Each secret of a document by its dotted path."""
    return seal(document, options=options).values


def unmask(document: Mapping[str, Any], values: Mapping[str, str]) -> JSONObject:
    """A masked document with the secrets put back that are known; the inverse of `seal`."""
    return cast(JSONObject, _put_back(dict(document), (), values))


def comparable(document: Mapping[str, Any], *, options: type[Any] | None = None) -> JSONObject:
    """What makes two documents the same: no secrets, no nulls. A document and its masked form come out alike."""
    return cast(JSONObject, _pruned(mask(document, options=options)))


def same(one: JSONObject, other: JSONObject) -> bool:
    """Whether two masked documents are the same one, in whatever order, spelling of numbers and with whatever secrets.

    They are compared as JSON text: in Python 1 and true are equal.
    """
    return _canonical(_pruned(one)) == _canonical(_pruned(other))


def _masker(tp: Any, options: type[Any] | None = None) -> _Masker:
    key = (tp, options)
    if key not in _maskers:
        _maskers[key] = _make_masker(tp, options)
    return _maskers[key]


def _make_masker(tp: Any, options: type[Any] | None) -> _Masker:
    bare = kind_of(tp).bare
    if bare is Secret:
        return lambda value, path, keep: mask_free(value, path, keep, secret=True)
    if attrs.has(bare):
        return _class_masker(bare, options)
    if is_list(bare):
        return _list_masker(_masker(item_type(bare), options), kind_of(item_type(bare)).bare is Secret)
    if is_mapping(bare) and item_type(bare) not in (Any, object, None):
        return _mapping_masker(_masker(item_type(bare)), kind_of(item_type(bare)).bare is Secret)
    return mask_free


def _class_masker(cls: type[Any], options: type[Any] | None) -> _Masker:
    shape = shape_of(cls)
    fields = dict(shape.fields)
    if shape.rest and options is not None:
        fields = {**shape_of(options).fields, **fields}
    find = {name: _masker(field.type, options) for name, field in fields.items()}.get

    def mask_object(value: Any, path: Path, keep: Keep) -> Any:
        if not isinstance(value, dict):
            return mask_free(value, path, keep)
        found = {}
        for key, item in value.items():
            known = find(key)
            if known is None:
                found[key] = mask_free(item, (*path, key), keep, secret=looks_secret(str(key)))
            elif known is mask_free and (item.__class__ in _PLAIN or (item.__class__ is str and "://" not in item)):
                found[key] = item
            else:
                found[key] = known(item, (*path, key), keep)
        return found

    return mask_object


def _list_masker(item_masker: _Masker, secret: bool) -> _Masker:
    def mask_list(value: Any, path: Path, keep: Keep) -> Any:
        if not isinstance(value, list):
            return mask_free(value, path, keep, secret=secret)
        return [item_masker(item, (*path, n), keep) for n, item in enumerate(value)]

    return mask_list


def _mapping_masker(item_masker: _Masker, secret: bool) -> _Masker:
    def mask_mapping(value: Any, path: Path, keep: Keep) -> Any:
        if not isinstance(value, dict):
            return mask_free(value, path, keep, secret=secret)
        return {key: item_masker(item, (*path, key), keep) for key, item in value.items()}

    return mask_mapping


def _put_back(value: Any, path: Path, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _put_back(item, (*path, key), values) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_back(item, (*path, n), values) for n, item in enumerate(value)]
    return values.get(joined(*path), value) if isinstance(value, str) and MASK in value else value


def _pruned(value: Any) -> Any:
    if value.__class__ in _LEAVES:
        return value
    if isinstance(value, dict):
        return {
            key: item if item.__class__ in _LEAVES or (item.__class__ is str and MASK not in item) else _pruned(item)
            for key, item in value.items()
            if item is not None and item != MASK
        }
    if isinstance(value, list):
        return [_pruned(item) for item in value]
    if isinstance(value, str):
        return without_secret_parts(value) if MASK in value else value
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return int(value)
    return value


def without_masks(value: Any) -> Any:
    """A masked document with nothing in the place of its secrets: as a run gets it, which finds them elsewhere."""
    if isinstance(value, dict):
        return {key: None if item == MASK else without_masks(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_masks(item) for item in value]
    return value
